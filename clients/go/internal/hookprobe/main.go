//go:build linux

// Command hookprobe is for tests: it answers calls of the functions of the hook's command, one JSON
// object a line, so that what they do can be held against the ones in Python.
package main

import (
	"encoding/json"
	"os"
	"syscall"

	"localmem/internal/hook"
	"localmem/internal/place"
)

type call struct {
	Call        string
	Environment map[string][]byte
	Path        []byte
	Body        []byte
	Ended       bool
	Editor      string
}

func main() {
	calls, answers := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var one call
		if err := calls.Decode(&one); err != nil {
			return
		}
		if err := answers.Encode(answer(one)); err != nil {
			return
		}
	}
}

func answer(one call) any {
	switch one.Call {
	case "runtimeDir":
		path, ok := place.RuntimeDir(func(name string) (string, bool) {
			value, ok := one.Environment[name]
			return string(value), ok
		})
		return map[string]any{"path": []byte(path), "found": ok}
	case "beginsTurn":
		return hook.BeginsTurn(one.Body)
	case "parseAnswer":
		body, whole := hook.ParseAnswer(one.Body, one.Ended)
		return map[string]any{"body": body, "whole": whole}
	}
	folder, err := syscall.Open(string(one.Path), syscall.O_RDONLY, 0)
	if err != nil {
		return nil
	}
	defer syscall.Close(folder)
	if one.Call == "isInMemory" {
		return hook.IsInMemory(folder)
	}
	hook.Keep(folder, one.Editor, one.Body)
	return true
}
