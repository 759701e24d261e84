// Package place knows where the runtime folder of a daemon is: by the rules of `config.load_settings`
// of the node.
package place

import (
	"os"
	"runtime"
	"strconv"
	"strings"
)

// Get looks a variable of an environment up.
type Get func(name string) (string, bool)

// RuntimeDir is the folder of the daemon's socket; false without one.
func RuntimeDir(get Get) (string, bool) {
	if given, ok := get("LOCALMEM_HOME"); ok {
		home, ok := absolute(given, get)
		return home + "/run", ok && given != ""
	}
	ours, _ := get("XDG_RUNTIME_DIR")
	for _, parent := range []string{ours, "/run/user/" + strconv.Itoa(os.Getuid())} {
		if parent != "" && isFolder(parent) {
			return parent + "/localmem", true
		}
	}
	state, _ := get("XDG_STATE_HOME")
	if !strings.HasPrefix(state, "/") {
		home, _ := get("HOME")
		if !strings.HasPrefix(home, "/") {
			found, ok := homeOf("")
			if !ok {
				return "", false
			}
			home = found
		}
		state = home + "/.local/state"
		if runtime.GOOS == "darwin" {
			state = home + "/Library/Application Support"
		}
	}
	return state + "/localmem/run", true
}

func absolute(path string, get Get) (string, bool) {
	if strings.HasPrefix(path, "~") {
		user, rest, slash := strings.Cut(path[1:], "/")
		home, known := "", false
		if user == "" {
			home, known = get("HOME")
		}
		if !known {
			home, known = homeOf(user)
		}
		if !known {
			return "", false
		}
		path = strings.TrimRight(home, "/")
		if slash {
			path += "/" + rest
		}
		if path == "" {
			path = "/"
		}
	}
	if strings.HasPrefix(path, "/") {
		return path, true
	}
	here, err := os.Getwd()
	return here + "/" + path, err == nil
}

// homeOf is the home of a user, or of this one, by the file passwd alone: there is no libc to ask.
func homeOf(user string) (string, bool) {
	text, err := os.ReadFile("/etc/passwd")
	if err != nil {
		return "", false
	}
	number := strconv.Itoa(os.Getuid())
	for _, line := range strings.Split(string(text), "\n") {
		fields := strings.Split(line, ":")
		if len(fields) == 7 && (fields[0] == user || user == "" && fields[2] == number) {
			return fields[5], true
		}
	}
	return "", false
}

func isFolder(path string) bool {
	found, err := os.Stat(path)
	return err == nil && found.IsDir()
}
