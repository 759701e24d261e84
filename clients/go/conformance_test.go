//go:build unix

package localmem

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
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
