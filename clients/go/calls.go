//go:build unix

package localmem

import (
	"context"
	"encoding/json"
)

// RecordEvent keeps an event; when it returns, the event is on disk. An error of code "daemon" or
// "timeout" leaves open whether it is.
func (c *Client) RecordEvent(ctx context.Context, draft Draft) (Event, error) {
	recorded, refused, err := c.RecordEvents(ctx, "", draft)
	if err != nil {
		return Event{}, err
	}
	if len(refused) > 0 {
		return Event{}, &Error{Code: CodeEvent, Field: refused[0].Field, Message: refused[0].Message}
	}
	if len(recorded) != 1 {
		return Event{}, notUnderstood(200)
	}
	return recorded[0], nil
}

// RecordEvents keeps at most 256 events, and tells which of them were refused. Relative paths are
// relative to folder, an absolute path; without it ("") git is not asked whether it ignores them.
func (c *Client) RecordEvents(ctx context.Context, folder string, drafts ...Draft) ([]Event, []Refused, error) {
	for at := range drafts {
		if name := invalid(drafts[at].fields()); name != "" {
			return nil, nil, &Error{Code: CodeEvent, Field: name, Message: "is not UTF-8"}
		}
	}
	body := struct {
		Events []Draft `json:"events"`
		Folder string  `json:"folder,omitempty"`
	}{append([]Draft{}, drafts...), folder}
	data, err := encoded(body, field{"folder", folder})
	if err != nil {
		return nil, nil, err
	}
	var answer struct {
		Recorded []Event
		Failed   []Refused
	}
	err = c.call(ctx, request{method: "POST", path: "/v1/record", body: data}, &answer)
	return answer.Recorded, answer.Failed, err
}

// QueryRecent finds the k events, at most 100, that answer a question best.
func (c *Client) QueryRecent(ctx context.Context, query string, k int, filter Filter) ([]FoundEvent, error) {
	body := struct {
		Query string `json:"query"`
		K     int    `json:"k"`
		Filter
	}{query, k, filter}
	var answer struct{ Events []FoundEvent }
	err := c.ask(ctx, "/v1/query", body, &answer, append(filter.fields(), field{"query", query})...)
	return answer.Events, err
}

// Recent is the k newest events, at most 1000, newest first.
func (c *Client) Recent(ctx context.Context, k int, filter Filter) ([]FoundEvent, error) {
	body := struct {
		K int `json:"k"`
		Filter
	}{k, filter}
	var answer struct{ Events []FoundEvent }
	err := c.ask(ctx, "/v1/recent", body, &answer, filter.fields()...)
	return answer.Events, err
}

// Timeline is k events in order, oldest first: around the one with this id, or the newest ("").
func (c *Client) Timeline(ctx context.Context, id string, k int, filter Filter) ([]Event, error) {
	body := struct {
		ID string `json:"id,omitempty"`
		K  int    `json:"k"`
		Filter
	}{id, k, filter}
	var answer struct{ Events []Event }
	err := c.ask(ctx, "/v1/timeline", body, &answer, append(filter.fields(), field{"id", id})...)
	return answer.Events, err
}

// Pin keeps an event when the store is full, or lets it go; it is the event as it is then.
func (c *Client) Pin(ctx context.Context, id string, pinned bool) (Event, error) {
	body := struct {
		ID     string `json:"id"`
		Pinned bool   `json:"pinned"`
	}{id, pinned}
	var answer struct{ Event Event }
	err := c.ask(ctx, "/v1/pin", body, &answer, field{"id", id})
	return answer.Event, err
}

// Forget removes events for good, and tells how many of them there were.
func (c *Client) Forget(ctx context.Context, ids ...string) (int, error) {
	body := struct {
		IDs []string `json:"ids"` // never null: that would be all of them
	}{append([]string{}, ids...)}
	var fields []field
	for _, id := range ids {
		fields = append(fields, field{"ids", id})
	}
	var answer struct{ Count int }
	err := c.ask(ctx, "/v1/forget", body, &answer, fields...)
	return answer.Count, err
}

// Status is what the daemon says of itself.
func (c *Client) Status(ctx context.Context) (map[string]any, error) {
	var answer map[string]any
	err := c.call(ctx, request{method: "GET", path: "/v1/status", repeatable: true}, &answer)
	return answer, err
}

// ask is a call that may be repeated when the connection breaks.
func (c *Client) ask(ctx context.Context, path string, body, answer any, fields ...field) error {
	data, err := encoded(body, fields...)
	if err != nil {
		return err
	}
	return c.call(ctx, request{method: "POST", path: path, body: data, repeatable: true}, answer)
}

func (c *Client) call(ctx context.Context, what request, answer any) error {
	status, data, err := c.send(ctx, what)
	if err != nil {
		return err
	}
	return understood(status, data, answer)
}

// understood is the answer of the daemon, or the error that it is.
func understood(status int, data []byte, answer any) error {
	if status == 200 {
		if json.Unmarshal(data, answer) != nil {
			return notUnderstood(status)
		}
		return nil
	}
	if err := problem(data); err != nil {
		return err
	}
	return notUnderstood(status)
}

// problem is an error as the daemon writes it; nil if it is none.
func problem(data []byte) error {
	var answer struct{ Error *Error }
	if json.Unmarshal(data, &answer) != nil || answer.Error == nil || answer.Error.Code == "" {
		return nil
	}
	return answer.Error
}
