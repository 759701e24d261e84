//go:build unix

package localmem

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// daemon is a real one, with a home of its own. LOCALMEM_TEST_PYTHON is the interpreter that has it.
type daemon struct {
	home        string
	environment []string
	command     []string
}

func newDaemon(t *testing.T) *daemon {
	python := os.Getenv("LOCALMEM_TEST_PYTHON")
	if python == "" {
		t.Skip("LOCALMEM_TEST_PYTHON names no interpreter; run: pytest tests/clients/test_go_client.py")
	}
	// Not t.TempDir: the path of a socket must not be long.
	home, err := os.MkdirTemp("", "lm-")
	if err != nil {
		t.Fatal(err)
	}
	one := &daemon{
		home:    home,
		command: []string{python, "-P", "-m", "localmem_node.cli.main"},
		environment: append(os.Environ(),
			"LOCALMEM_HOME="+home, "LOCALMEM_PASSPHRASE=correct horse", "LOCALMEM_SIZE=2 MiB"),
	}
	t.Cleanup(func() {
		_ = one.fault("thaw")
		_ = one.fault("kill")
		_ = os.RemoveAll(home)
	})
	return one
}

func (d *daemon) client(t *testing.T) *Client {
	client, err := New(Options{Environment: d.environment, Command: d.command})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

type stateFile struct {
	PID    int    `json:"pid"`
	Port   int    `json:"port"`
	Socket string `json:"socket"`
	Token  string `json:"token"`
}

func (d *daemon) path() string { return filepath.Join(d.home, "run", "daemon.json") }

func (d *daemon) state() (stateFile, error) {
	var state stateFile
	data, err := os.ReadFile(d.path())
	if err != nil {
		return state, err
	}
	return state, json.Unmarshal(data, &state)
}

func (d *daemon) fault(name string) error {
	if name == "start" {
		client, err := New(Options{Environment: d.environment, Command: d.command})
		if err != nil {
			return err
		}
		defer client.Close()
		_, err = client.Status(context.Background())
		return err
	}
	state, err := d.state()
	if err != nil {
		return err
	}
	switch name {
	case "kill":
		if err := syscall.Kill(state.PID, syscall.SIGKILL); err != nil {
			return err
		}
		return d.gone()
	case "spoil_store":
		if err := d.fault("stop"); err != nil {
			return err
		}
		store := filepath.Join(d.home, "data", "memory.localmem")
		return os.WriteFile(store, make([]byte, 256<<10), 0o600)
	case "stop":
		if _, err := d.request(object{"method": "POST", "path": "/v1/stop"}, nil); err != nil {
			return err
		}
		return d.gone()
	case "freeze":
		return syscall.Kill(state.PID, syscall.SIGSTOP)
	case "thaw":
		return syscall.Kill(state.PID, syscall.SIGCONT)
	case "replace_token":
		data, err := os.ReadFile(d.path())
		if err != nil {
			return err
		}
		other := strings.Repeat("0", len(state.Token))
		return os.WriteFile(d.path(), bytes.Replace(data, []byte(state.Token), []byte(other), 1), 0o600)
	}
	return fmt.Errorf("unknown fault: %s", name)
}

// gone waits until the daemon has let its lock go, with which everything else of it is closed: the
// first thread of a process may have ended before the others.
func (d *daemon) gone() error {
	lock, err := os.Open(filepath.Join(d.home, "run", "daemon.lock"))
	if err != nil {
		return err
	}
	defer lock.Close()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			return nil
		}
	}
	return fmt.Errorf("the daemon of %s goes on", d.home)
}

// request is one of plain HTTP, past the client.
func (d *daemon) request(what object, body []byte) (*http.Response, error) {
	state, err := d.state()
	if err != nil {
		return nil, err
	}
	network, address := "unix", state.Socket
	if what["over"] == "loopback" {
		network, address = "tcp", fmt.Sprintf("127.0.0.1:%d", state.Port)
	}
	headers := map[string]any{
		"Host": "localhost", "Authorization": "Bearer " + state.Token, "Content-Type": "application/json",
	}
	if what["chunked"] == true {
		headers["Transfer-Encoding"] = "chunked"
		body = fmt.Appendf(nil, "%x\r\n%s\r\n0\r\n\r\n", len(body), body)
	} else {
		headers["Content-Length"] = fmt.Sprint(len(body))
	}
	given, _ := what["headers"].(object)
	for name, value := range given {
		headers[name] = value
	}
	head := fmt.Sprintf("%s %s HTTP/1.1\r\nConnection: close\r\n", what["method"], what["path"])
	for name, value := range headers {
		if value != nil {
			head += fmt.Sprintf("%s: %s\r\n", name, value)
		}
	}
	return asked(network, address, append([]byte(head+"\r\n"), body...))
}

func (r *runner) request(step object) error {
	what := step["request"].(object)
	body, err := r.body(what)
	if err != nil {
		return err
	}
	if _, err := r.daemon.state(); err != nil {
		if err := r.daemon.fault("start"); err != nil {
			return err
		}
	}
	response, err := r.daemon.request(what, body)
	if err != nil {
		return err
	}
	want := step["answers"].(object)
	if float64(response.StatusCode) != want["status"] {
		return fmt.Errorf("%d, and not %v", response.StatusCode, want["status"])
	}
	headers, _ := want["headers"].(object)
	for name, value := range headers {
		if response.Header.Get(name) != value {
			return fmt.Errorf("%s: %q, and not %q", name, response.Header.Get(name), value)
		}
	}
	if want["body"] == nil {
		return nil
	}
	var found any
	if err := json.NewDecoder(response.Body).Decode(&found); err != nil {
		return err
	}
	return r.match(found, want["body"])
}

func (r *runner) body(what object) ([]byte, error) {
	if code, ok := what["hex"].(string); ok {
		text, err := r.special("$bytes", code)
		if err != nil {
			return nil, err
		}
		return []byte(text.(string)), nil
	}
	if text, ok := what["text"]; ok {
		value, err := r.value(text)
		if err != nil {
			return nil, err
		}
		return []byte(value.(string)), nil
	}
	if what["body"] == nil {
		return nil, nil
	}
	value, err := r.value(what["body"])
	if err != nil {
		return nil, err
	}
	return json.Marshal(value)
}

// asked is the answer to a request as bytes, read whole.
func asked(network, address string, data []byte) (*http.Response, error) {
	connection, err := net.Dial(network, address)
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	if err := connection.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return nil, err
	}
	if _, err := connection.Write(data); err != nil {
		return nil, err
	}
	return wholeResponse(connection)
}

func pulled(watch *Watch) func() (Event, error, bool) {
	next, _ := iter.Pull2(watch.Events())
	return next
}

func wholeResponse(connection net.Conn) (*http.Response, error) {
	response, err := http.ReadResponse(bufio.NewReader(connection), nil)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(response.Body)
	response.Body = io.NopCloser(bytes.NewReader(data))
	return response, err
}
