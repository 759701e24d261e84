//go:build linux

// Package hook is the command that an editor runs for an event: standard input to the daemon, its
// answer back.
//
// An editor waits for it, many times in a turn. So it has no package that is slow to begin, waits at
// most Wait for the daemon, says nothing on standard error, and always ends with 0.
//
//	stdin ─▶ daemon answers ─▶ stdout
//	      ─▶ daemon away, or it did not answer ─▶ spool, if its folder is in memory
//	                                              and with a session or a prompt a daemon is started
//
// What daemon and spool are trusted with is what somebody works on. Neither gets it unless the runtime
// folder, the socket and the process behind it belong to this user and are closed to others.
package hook

import (
	"bytes"
	"os"
	"os/signal"
	"syscall"

	"localmem/internal/place"
)

// Interface is the number of what a node and this command agree on: the file `hook`, the route, the
// spool. A node of another number does not install it.
const Interface = "1"

var editors = []string{"claude-code", "codex", "cursor"}

var beginnings = [][]byte{
	[]byte(`"SessionStart"`), []byte(`"sessionStart"`),
	[]byte(`"UserPromptSubmit"`), []byte(`"beforeSubmitPrompt"`),
}

// Main serves one event, or says `--version` where it was not installed.
func Main(arguments []string) {
	quiet()
	installed := readInstalled()
	if len(arguments) == 1 && arguments[0] == "--version" && installed == nil {
		say([]byte("localmem-hook " + Interface + "\n"))
		return
	}
	run(arguments, environment{installed})
}

// quiet keeps signals from saying anything: an interrupted hook is a silent one, and a file that may
// not grow further is an error of write(2).
func quiet() {
	signal.Ignore(syscall.SIGXFSZ)
	if signal.Ignored(syscall.SIGINT) {
		return
	}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, syscall.SIGINT)
	go func() {
		<-interrupted
		syscall.Exit(0)
	}()
}

// run hands standard input to the daemon, or keeps it for the next one.
func run(arguments []string, given environment) {
	if len(arguments) != 1 || !isEditor(arguments[0]) {
		return
	}
	if state, _ := given.get("LOCALMEM_HOOKS"); state == "off" {
		return
	}
	editor, body := arguments[0], readInput()
	path, ok := place.RuntimeDir(given.get)
	if len(body) == 0 || !ok {
		return
	}
	folder, err := openFolder(path)
	if err == syscall.ENOENT {
		folder, err = makeFolder(path)
		if err != nil {
			return
		}
	}
	if err == nil && folder != none {
		if answer, answered := ask(folder, editor, body); answered {
			tell(answer)
			return
		}
		Keep(folder, editor, body)
	}
	if BeginsTurn(body) {
		startDaemon(folder, given)
	}
}

func isEditor(name string) bool {
	for _, editor := range editors {
		if name == editor {
			return true
		}
	}
	return false
}

// BeginsTurn tells whether this JSON is of the start of a session, or of a prompt: of a session that
// goes on after its daemon has ended. A quote inside a text is written otherwise.
func BeginsTurn(body []byte) bool {
	_, rest, found := bytes.Cut(body, []byte(`"hook_event_name"`))
	if !found {
		return false
	}
	rest = bytes.TrimLeft(rest[:min(64, len(rest))], space)
	if len(rest) == 0 || rest[0] != ':' {
		return false
	}
	rest = bytes.TrimLeft(rest[1:], space)
	for _, beginning := range beginnings {
		if bytes.HasPrefix(rest, beginning) {
			return true
		}
	}
	return false
}

// tell prints the answer, if it says anything and somebody listens.
func tell(answer []byte) {
	if answer = bytes.Trim(answer, space); !bytes.Equal(answer, []byte("{}")) {
		say(answer)
	}
}

func say(data []byte) {
	for len(data) > 0 {
		written, err := syscall.Write(1, data)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return
		}
		data = data[written:]
	}
}
