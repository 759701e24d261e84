//go:build unix

package localmem

import (
	"encoding/hex"
	"fmt"
	"reflect"
	"strings"
)

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
