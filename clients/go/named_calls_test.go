//go:build unix

package localmem

import (
	"context"
	"encoding/json"
	"reflect"
	"strings"
)

// perform is a call of the client by its name in the cases; the result is as JSON would have it.
func perform(ctx context.Context, client *Client, name string, with object) (any, error) {
	k := 10
	if given, ok := with["k"].(float64); ok {
		k = int(given)
	}
	id, _ := with["id"].(string)
	switch name {
	case "record_event":
		event, err := client.RecordEvent(ctx, draftOf(with["event"].(object)))
		return asJSON(event), err
	case "query_recent":
		events, err := client.QueryRecent(ctx, with["query"].(string), k, filterOf(with, "k", "query"))
		return asJSON(events), err
	case "recent":
		events, err := client.Recent(ctx, k, filterOf(with, "k"))
		return asJSON(events), err
	case "timeline":
		events, err := client.Timeline(ctx, id, k, filterOf(with, "k", "id"))
		return asJSON(events), err
	case "pin":
		event, err := client.Pin(ctx, id, with["pinned"] != false)
		return asJSON(event), err
	case "forget":
		var ids []string
		for _, one := range with["ids"].([]any) {
			ids = append(ids, one.(string))
		}
		count, err := client.Forget(ctx, ids...)
		return float64(count), err
	case "status":
		status, err := client.Status(ctx)
		return asJSON(status), err
	}
	panic("unknown call: " + name)
}

func draftOf(event object) Draft {
	text := func(name string) string {
		found, _ := event[name].(string)
		return found
	}
	draft := Draft{
		Timestamp: int64(event["timestamp"].(float64)), Snippet: text("snippet"), FilePath: text("filePath"),
		ModelResponseHash: text("modelResponseHash"), Kind: Kind(text("kind")), Tool: text("tool"),
		Session: text("session"), Project: text("project"), Pinned: event["pinned"] == true,
	}
	if lines, ok := event["selectionRange"].([]any); ok {
		draft.SelectionRange = &[2]int{int(lines[0].(float64)), int(lines[1].(float64))}
	}
	for name := range event {
		if _, ok := reflect.TypeOf(draft).FieldByNameFunc(func(one string) bool { return strings.EqualFold(one, name) }); !ok {
			panic("unknown field: " + name)
		}
	}
	return draft
}

func filterOf(with object, others ...string) Filter {
	texts := func(value any) []string {
		if one, ok := value.(string); ok {
			return []string{one}
		}
		var found []string
		for _, one := range value.([]any) {
			found = append(found, one.(string))
		}
		return found
	}
	var filter Filter
	for name, value := range with {
		switch name {
		case "project":
			filter.Project = texts(value)
		case "kind":
			for _, one := range texts(value) {
				filter.Kind = append(filter.Kind, Kind(one))
			}
		case "tool":
			filter.Tool = texts(value)
		case "file":
			filter.File = value.(string)
		case "device":
			filter.Device = value.(string)
		case "session":
			filter.Session = value.(string)
		case "since":
			filter.Since = int64(value.(float64))
		case "before":
			filter.Before = int64(value.(float64))
		default:
			if !contains(others, name) {
				panic("unknown filter: " + name)
			}
		}
	}
	return filter
}

// asJSON is a result as the daemon wrote it: what an event does not have is null.
func asJSON(result any) any {
	data, err := json.Marshal(result)
	if err != nil {
		panic(err)
	}
	var found any
	if err := json.Unmarshal(data, &found); err != nil {
		panic(err)
	}
	var nulls func(any)
	nulls = func(value any) {
		switch value := value.(type) {
		case []any:
			for _, one := range value {
				nulls(one)
			}
		case object:
			for _, name := range []string{"filePath", "modelResponseHash", "tool", "session", "project"} {
				if value[name] == "" {
					value[name] = nil
				}
			}
		}
	}
	nulls(found)
	if found == nil {
		return []any{}
	}
	return found
}
