//go:build unix

package localmem

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sort"
	"strings"
	"testing"
)

// The types are those of the daemon's own description.
func TestTheTypesAreThoseOfTheDescription(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(filepath.Join("..", "openapi.json"))
	if err != nil {
		t.Fatal(err)
	}
	var description struct {
		Components struct {
			Schemas map[string]struct {
				Properties map[string]any
				Enum       []Kind
			}
		}
	}
	if err := json.Unmarshal(data, &description); err != nil {
		t.Fatal(err)
	}
	schemas := description.Components.Schemas
	for _, one := range []struct {
		schema string
		value  any
		others []string // what the calls have beside, or do not ask for
	}{
		{"Draft", Draft{}, nil}, {"Event", Event{}, nil}, {"FoundEvent", FoundEvent{}, []string{"evidence"}},
		{"Refused", Refused{}, nil}, {"Problem", Error{}, nil}, {"Recent", Filter{}, []string{"k"}},
		{"Query", Filter{}, []string{"query", "k", "explain"}}, {"Timeline", Filter{}, []string{"id", "k"}},
		{"Watching", Filter{}, []string{"after", "heartbeat_s"}},
	} {
		found := append(names(reflect.TypeOf(one.value)), one.others...)
		sort.Strings(found)
		var wanted []string
		for name := range schemas[one.schema].Properties {
			wanted = append(wanted, name)
		}
		sort.Strings(wanted)
		if !slices.Equal(found, wanted) {
			t.Errorf("%s: %v, and not %v", one.schema, found, wanted)
		}
	}
	if kinds := []Kind{Prompt, Edit, Command, Failure, Answer, Read, Note}; !slices.Equal(kinds, schemas["Kind"].Enum) {
		t.Errorf("%v, and not %v", kinds, schemas["Kind"].Enum)
	}
}

// names are those of a struct's fields in JSON.
func names(of reflect.Type) []string {
	var found []string
	for at := range of.NumField() {
		one := of.Field(at)
		if one.Anonymous {
			found = append(found, names(one.Type)...)
			continue
		}
		name, _, _ := strings.Cut(one.Tag.Get("json"), ",")
		found = append(found, name)
	}
	return found
}
