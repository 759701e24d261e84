package localmem

import (
	"encoding/json"
	"unicode/utf8"
)

// Kind is what an event is of.
type Kind string

// The kinds of events.
const (
	Prompt  Kind = "prompt"
	Edit    Kind = "edit"
	Command Kind = "command"
	Failure Kind = "error"
	Answer  Kind = "answer"
	Read    Kind = "read"
	Note    Kind = "note"
)

// Draft is an event to record. Empty fields are not told; an edit, which is the default kind, needs
// FilePath and SelectionRange, and every event a Snippet.
type Draft struct {
	Timestamp         int64   `json:"timestamp"` // milliseconds since 1970
	Snippet           string  `json:"snippet"`
	FilePath          string  `json:"filePath,omitempty"`
	SelectionRange    *[2]int `json:"selectionRange,omitempty"` // first and last line, from 1
	ModelResponseHash string  `json:"modelResponseHash,omitempty"`
	Kind              Kind    `json:"kind,omitempty"`
	Tool              string  `json:"tool,omitempty"`
	Session           string  `json:"session,omitempty"`
	Project           string  `json:"project,omitempty"`
	Pinned            bool    `json:"pinned,omitempty"`
}

// Event is one that was recorded. What it does not have is empty.
type Event struct {
	ID                string  `json:"id"`
	Timestamp         int64   `json:"timestamp"` // milliseconds since 1970
	Snippet           string  `json:"snippet"`
	FilePath          string  `json:"filePath"`
	SelectionRange    *[2]int `json:"selectionRange"`
	ModelResponseHash string  `json:"modelResponseHash"`
	Kind              Kind    `json:"kind"`
	Tool              string  `json:"tool"`
	Session           string  `json:"session"`
	Project           string  `json:"project"`
	Pinned            bool    `json:"pinned"`
	Device            string  `json:"device"` // where it was recorded
	Clock             int64   `json:"clock"`
	Sequence          int64   `json:"sequence"`
}

// FoundEvent is an event that answers a question, and how well: from 0 to 1, 0 where nothing was asked.
type FoundEvent struct {
	Event
	Score      float64 `json:"score"`
	Duplicates int     `json:"duplicates"`
}

// Filter narrows a call; what is empty does not. Of several projects, kinds or tools, any.
type Filter struct {
	Project []string `json:"project,omitempty"`
	File    string   `json:"file,omitempty"` // a path, or the end or a folder of one
	Kind    []Kind   `json:"kind,omitempty"`
	Tool    []string `json:"tool,omitempty"`
	Device  string   `json:"device,omitempty"`
	Session string   `json:"session,omitempty"`
	Since   int64    `json:"since,omitempty"`  // by Timestamp, included
	Before  int64    `json:"before,omitempty"` // left out
}

// Refused is an event that was not recorded, by its place in the call, and why.
type Refused struct {
	Index   int    `json:"index"`
	Field   string `json:"field"`
	Message string `json:"message"`
}

// field is one of a call, and a text in it.
type field struct{ name, text string }

func (d *Draft) fields() []field {
	return []field{
		{"snippet", d.Snippet}, {"filePath", d.FilePath}, {"modelResponseHash", d.ModelResponseHash},
		{"kind", string(d.Kind)}, {"tool", d.Tool}, {"session", d.Session}, {"project", d.Project},
	}
}

func (f *Filter) fields() []field {
	fields := []field{{"file", f.File}, {"device", f.Device}, {"session", f.Session}}
	for _, one := range f.Project {
		fields = append(fields, field{"project", one})
	}
	for _, one := range f.Kind {
		fields = append(fields, field{"kind", string(one)})
	}
	for _, one := range f.Tool {
		fields = append(fields, field{"tool", one})
	}
	return fields
}

// invalid is the field that is no UTF-8, which encoding/json would replace without a word.
func invalid(fields []field) string {
	for _, one := range fields {
		if !utf8.ValidString(one.text) {
			return one.name
		}
	}
	return ""
}

// encoded is a call's body. An error is of code "query".
func encoded(body any, fields ...field) ([]byte, error) {
	if name := invalid(fields); name != "" {
		return nil, &Error{Code: CodeQuery, Field: name, Message: "is not UTF-8"}
	}
	data, err := json.Marshal(body)
	if err != nil {
		return nil, &Error{Code: CodeQuery, Message: err.Error()}
	}
	return data, nil
}
