//go:build unix

package localmem

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// The cases of tests/vectors/daemon, whose README says what they mean, with a real daemon.

type object = map[string]any

type suite struct {
	Cases []struct {
		Name  string
		Only  []string
		Steps []object
	}
}

func TestConformance(t *testing.T) {
	t.Run("calls", func(t *testing.T) {
		t.Parallel()
		daemon := newDaemon(t)
		runSuite(t, "calls.json", func(t *testing.T) *runner { return newRunner(t, daemon) })
	})
	t.Run("requests", func(t *testing.T) {
		t.Parallel()
		daemon := newDaemon(t)
		runSuite(t, "requests.json", func(t *testing.T) *runner { return newRunner(t, daemon) })
	})
	t.Run("faults", func(t *testing.T) {
		t.Parallel()
		runSuite(t, "faults.json", func(t *testing.T) *runner { return newRunner(t, newDaemon(t)) })
	})
}

func runSuite(t *testing.T, name string, begin func(*testing.T) *runner) {
	data, err := os.ReadFile(filepath.Join("..", "..", "tests", "vectors", "daemon", name))
	if err != nil {
		t.Fatal(err)
	}
	var found suite
	if err := json.Unmarshal(data, &found); err != nil {
		t.Fatal(err)
	}
	for _, one := range found.Cases {
		if one.Only != nil && !contains(one.Only, "go") {
			continue
		}
		t.Run(one.Name, func(t *testing.T) {
			run := begin(t)
			for number, step := range one.Steps {
				if err := run.step(step); err != nil {
					t.Fatalf("step %d: %v", number, err)
				}
			}
		})
	}
}

func contains(all []string, one string) bool {
	for _, other := range all {
		if other == one {
			return true
		}
	}
	return false
}

// runner runs the steps of a case.
type runner struct {
	t       *testing.T
	daemon  *daemon
	client  *Client
	saved   map[string]any
	watches map[string]func() (Event, error, bool)
	written chan struct{}
}

func newRunner(t *testing.T, daemon *daemon) *runner {
	run := &runner{t: t, daemon: daemon, saved: map[string]any{}, watches: map[string]func() (Event, error, bool){}}
	run.client = run.newClient()
	return run
}

func (r *runner) newClient() *Client {
	client := r.daemon.client(r.t)
	r.written = make(chan struct{}, 100)
	client.sent = func() {
		select {
		case r.written <- struct{}{}:
		default:
		}
	}
	return client
}

func (r *runner) step(step object) error {
	known := []string{"call", "request", "watch", "next", "end", "fault"}
	for _, kind := range known {
		if _, ok := step[kind]; ok {
			allowed := map[string][]string{
				"call":    {"with", "returns", "raises", "timeout_ms", "meanwhile", "fresh"},
				"request": {"answers"}, "watch": {"with", "raises"}, "next": {"returns"}, "end": {}, "fault": {},
			}[kind]
			for name := range step {
				if name != kind && !contains(allowed, name) {
					return fmt.Errorf("%s: unknown: %s", kind, name)
				}
			}
			return map[string]func(object) error{
				"call": r.call, "request": r.request, "watch": r.watch, "next": r.next,
				"end": r.end, "fault": r.fault,
			}[kind](step)
		}
	}
	return fmt.Errorf("unknown step: %v", step)
}

func (r *runner) call(step object) error {
	if step["fresh"] == true {
		r.client = r.newClient()
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	client := r.client
	if after, ok := step["timeout_ms"].(float64); ok {
		copied := r.daemon.client(r.t)
		copied.timeout = time.Duration(after) * time.Millisecond
		client = copied
	}
	with, err := r.value(step["with"])
	if err != nil {
		return err
	}
	meanwhile, waits := step["meanwhile"].(string)
	for len(r.written) > 0 {
		<-r.written
	}
	type outcome struct {
		result any
		err    error
	}
	done := make(chan outcome, 1)
	go func() {
		result, err := perform(ctx, client, step["call"].(string), with.(object))
		done <- outcome{result, err}
	}()
	if waits {
		<-r.written
		if meanwhile == "cancel" {
			cancel()
		} else if err := r.fault(object{"fault": meanwhile}); err != nil {
			return err
		}
	}
	got := <-done
	if want, raises := step["raises"].(object); raises {
		return raised(got.err, want)
	}
	if got.err != nil {
		return got.err
	}
	return r.match(got.result, step["returns"])
}

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

func raised(err error, want object) error {
	if err == nil {
		return fmt.Errorf("no error, and not %v", want)
	}
	if want["cancelled"] == true {
		if !errors.Is(err, context.Canceled) {
			return fmt.Errorf("not cancelled: %w", err)
		}
		return nil
	}
	var known *Error
	if !errors.As(err, &known) {
		return fmt.Errorf("an error of no type: %w", err)
	}
	codes, ok := want["code"].([]any)
	if !ok {
		codes = []any{want["code"]}
	}
	for _, code := range codes {
		if known.Code == code && (want["field"] == nil || want["field"] == known.Field) {
			return nil
		}
	}
	return fmt.Errorf("%q of %q, and not %v: %w", known.Code, known.Field, want, err)
}

func (r *runner) watch(step object) error {
	with, err := r.value(step["with"])
	if err != nil {
		return err
	}
	after, _ := with.(object)["after"].(string)
	watch, err := r.client.Watch(context.Background(), after, filterOf(with.(object), "after"))
	if want, raises := step["raises"].(object); raises {
		return raised(err, want)
	}
	if err != nil {
		return err
	}
	r.t.Cleanup(watch.Close)
	r.watches[step["watch"].(string)] = pulled(watch)
	return nil
}

func (r *runner) next(step object) error {
	event, err, ok := r.watches[step["next"].(string)]()
	if err != nil || !ok {
		return fmt.Errorf("the watch has ended: %w", err)
	}
	return r.match(asJSON(event), step["returns"])
}

func (r *runner) end(step object) error {
	name := step["end"].(string)
	if _, ok := r.watches[name]; !ok {
		return fmt.Errorf("no watch %q", name)
	}
	delete(r.watches, name)
	return nil
}

func (r *runner) fault(step object) error { return r.daemon.fault(step["fault"].(string)) }

// value is what a VALUE stands for.
func (r *runner) value(value any) (any, error) {
	switch value := value.(type) {
	case nil:
		return object{}, nil
	case []any:
		found := make([]any, len(value))
		for at, one := range value {
			var err error
			if found[at], err = r.value(one); err != nil {
				return nil, err
			}
		}
		return found, nil
	case object:
		for name, how := range value {
			if len(value) == 1 && strings.HasPrefix(name, "$") {
				return r.special(name, how)
			}
		}
		found := object{}
		for name, one := range value {
			var err error
			if found[name], err = r.value(one); err != nil {
				return nil, err
			}
		}
		return found, nil
	}
	return value, nil
}

func (r *runner) special(name string, how any) (any, error) {
	switch name {
	case "$saved":
		value, ok := r.saved[how.(string)]
		if !ok {
			return nil, fmt.Errorf("nothing is saved as %v", how)
		}
		return value, nil
	case "$text":
		text := ""
		for _, piece := range how.([]any) {
			pair := piece.([]any)
			text += strings.Repeat(pair[0].(string), int(pair[1].(float64)))
		}
		return text, nil
	case "$list":
		pair := how.([]any)
		one, err := r.value(pair[0])
		found := make([]any, int(pair[1].(float64)))
		for at := range found {
			found[at] = one
		}
		return found, err
	case "$bytes":
		data, err := hex.DecodeString(how.(string))
		return string(data), err
	}
	return nil, fmt.Errorf("unknown value: %s", name)
}

// match tells why a result is not as a pattern says.
func (r *runner) match(result, pattern any) error {
	want, ok := pattern.(object)
	if list, isList := pattern.([]any); isList {
		found, _ := result.([]any)
		if len(found) != len(list) {
			return fmt.Errorf("%v is not %v", result, pattern)
		}
		for at := range list {
			if err := r.match(found[at], list[at]); err != nil {
				return fmt.Errorf("%d: %w", at, err)
			}
		}
		return nil
	}
	if !ok {
		if !reflect.DeepEqual(result, pattern) {
			return fmt.Errorf("%v is not %v", result, pattern)
		}
		return nil
	}
	for name := range want {
		if strings.HasPrefix(name, "$") {
			return r.matchSpecial(result, want, name)
		}
	}
	found, ok := result.(object)
	if !ok {
		return fmt.Errorf("%v is no object", result)
	}
	for name, one := range want {
		value, there := found[name]
		if !there {
			return fmt.Errorf("%v has no %s", result, name)
		}
		if err := r.match(value, one); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (r *runner) matchSpecial(result any, want object, name string) error {
	if low, ok := want["$from"]; ok {
		number, isNumber := result.(float64)
		if !isNumber || number < low.(float64) || number > want["to"].(float64) {
			return fmt.Errorf("%v is not in %v", result, want)
		}
		return nil
	}
	if saves, ok := want["$save"]; ok {
		if pattern, narrowed := want["as"]; narrowed {
			if err := r.match(result, pattern); err != nil {
				return err
			}
		}
		r.saved[saves.(string)] = result
		return nil
	}
	switch name {
	case "$any":
		return nil
	case "$length":
		list, _ := result.([]any)
		if len(list) != int(want[name].(float64)) {
			return fmt.Errorf("%d elements, and not %v", len(list), want[name])
		}
		return nil
	case "$has":
		list, _ := result.([]any)
		for _, one := range list {
			if r.match(one, want[name]) == nil {
				return nil
			}
		}
		return fmt.Errorf("none of %v is as %v", result, want[name])
	}
	value, err := r.value(want)
	if err != nil {
		return err
	}
	if !reflect.DeepEqual(result, value) {
		return fmt.Errorf("%.200v is not %.200v", result, value)
	}
	return nil
}
