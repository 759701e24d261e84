//go:build unix

package localmem

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

func code(err error) string {
	var known *Error
	if errors.As(err, &known) {
		return known.Code
	}
	return ""
}

// unreal is a home in whose runtime folder somebody else listens than a daemon, and what it does with a
// connection.
func unreal(t *testing.T, does func(net.Conn)) *Client {
	home, err := os.MkdirTemp("", "lm-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(home) })
	run := filepath.Join(home, "run")
	if err := os.Mkdir(run, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(run, "localmem.sock")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go does(connection)
		}
	}()
	state := fmt.Sprintf(`{"pid":1,"port":1,"socket":%q,"token":"t","version":"0"}`, path)
	if err := os.WriteFile(filepath.Join(run, "daemon.json"), []byte(state), 0o600); err != nil {
		t.Fatal(err)
	}
	client, err := New(Options{Environment: []string{"LOCALMEM_HOME=" + home}, NoStart: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// says answers whatever is asked with this text, and closes.
func says(text string) func(net.Conn) {
	return func(connection net.Conn) {
		defer connection.Close()
		if _, err := connection.Read(make([]byte, 64<<10)); err == nil {
			_, _ = connection.Write([]byte(text))
		}
	}
}

func TestAnAnswerThatIsNoneIsATypedError(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", "nonsense\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}",
		"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnull\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{",
		"HTTP/1.1 500 Error\r\nContent-Length: 2\r\n\r\n{}", "HTTP/1.1 404 X\r\nContent-Length: 4\r\n\r\n<p>x",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
	} {
		client := unreal(t, says(text))
		if _, err := client.Pin(context.Background(), "aaaaaaaaaaaaaaaa", true); err != nil && code(err) != CodeDaemon {
			t.Errorf("%q: %v", text, err)
		}
		if _, err := client.RecordEvent(context.Background(), Draft{Snippet: "x"}); code(err) != CodeDaemon {
			t.Errorf("%q: %v", text, err)
		}
		if _, err := client.Watch(context.Background(), "", Filter{}); code(err) != CodeDaemon {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestOneWhoDoesNotAnswerIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	client := unreal(t, func(connection net.Conn) {})
	client.timeout = 50 * time.Millisecond
	for name, call := range map[string]func(context.Context) error{
		"call":  func(ctx context.Context) error { _, err := client.Recent(ctx, 1, Filter{}); return err },
		"watch": func(ctx context.Context) error { _, err := client.Watch(ctx, "", Filter{}); return err },
	} {
		err := call(context.Background())
		if !errors.Is(err, &Error{Code: CodeTimeout}) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := call(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAStateThatOthersCouldHaveWrittenIsNotBelieved(t *testing.T) {
	t.Parallel()
	client := unreal(t, says(""))
	path := filepath.Join(client.runtimeDir, "daemon.json")
	for _, mode := range []os.FileMode{0o620, 0o604, 0o660} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := client.Recent(context.Background(), 1, Filter{}); code(err) != CodeConfig {
			t.Errorf("%o: %v", mode, err)
		}
	}
	for _, text := range []string{"", "{", "[]", `{"socket":7}`, `{"token":"x"}`} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := client.Recent(context.Background(), 1, Filter{}); code(err) != CodeDaemon {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestWithoutADaemonAndWithoutLocalmemAnErrorSaysSo(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	for name, text := range map[string]string{
		"localmem": `echo '{"error":{"code":"wrong_key","message":"no key; run: x","field":null}}'; exit 1`,
		"other":    "exit 3",
	} {
		if err := os.WriteFile(filepath.Join(home, name), []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, one := range []struct {
		options Options
		says    string
	}{
		{Options{NoStart: true}, "daemon: no daemon is running; start one with: localmem up"},
		{Options{}, "daemon: the command localmem is not on PATH: localmem is not installed here"},
		{Options{Environment: []string{"PATH=relative::" + home}}, "wrong_key: no key; run: x"},
		{
			Options{Command: []string{filepath.Join(home, "other")}},
			"daemon: the daemon did not start: " + filepath.Join(home, "other") + ": exit status 3",
		},
	} {
		one.options.Environment = append(one.options.Environment, "LOCALMEM_HOME="+filepath.Join(home, "home"))
		client, err := New(one.options)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.Recent(context.Background(), 1, Filter{}); err == nil || err.Error() != one.says {
			t.Errorf("%v, and not %q", err, one.says)
		}
	}
	if _, err := New(Options{Environment: []string{"LOCALMEM_HOME="}}); code(err) != CodeConfig {
		t.Errorf("%v", err)
	}
}

func TestManyAtOnceStartOneDaemonAndAreAllAnswered(t *testing.T) {
	t.Parallel()
	client := newDaemon(t).client(t)
	var group sync.WaitGroup
	ids := make(chan string, 20)
	for number := range 20 {
		group.Add(1)
		go func() {
			defer group.Done()
			draft := Draft{Timestamp: int64(number), Snippet: fmt.Sprint("one of many ", number), Kind: Note}
			event, err := client.RecordEvent(context.Background(), draft)
			if err != nil || event.Snippet != draft.Snippet {
				t.Errorf("%v: %v", event, err)
			}
			ids <- event.ID
		}()
	}
	group.Wait()
	close(ids)
	different := map[string]bool{}
	for id := range ids {
		different[id] = true
	}
	events, err := client.Recent(context.Background(), 100, Filter{})
	if err != nil || len(events) != 20 || len(different) != 20 {
		t.Errorf("%d events, %d ids: %v", len(events), len(different), err)
	}
	recorded, refused, err := client.RecordEvents(context.Background(), "/", Draft{Snippet: "x", Kind: Note}, Draft{})
	if err != nil || len(recorded) != 1 || len(refused) != 1 || refused[0].Index != 1 {
		t.Errorf("%v, %v: %v", recorded, refused, err)
	}
}

func TestAWatchThatIsClosedOrCancelledEndsForWhoWaits(t *testing.T) {
	t.Parallel()
	client := newDaemon(t).client(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for name, end := range map[string]func(*Watch){
		"close": func(w *Watch) { w.Close() }, "cancel": func(*Watch) { cancel() },
	} {
		begun := context.Background()
		if name == "cancel" {
			begun = ctx
		}
		watch, err := client.Watch(begun, "", Filter{})
		if err != nil {
			t.Fatal(err)
		}
		if !watch.Complete() {
			t.Error("nothing was left out")
		}
		seen := make(chan string, 1)
		ended := make(chan error, 1)
		go func() {
			for event, err := range watch.Events() {
				if err != nil {
					ended <- err
					return
				}
				seen <- event.ID
			}
		}()
		event, err := client.RecordEvent(begun, Draft{Snippet: name, Kind: Note})
		if err != nil || <-seen != event.ID {
			t.Fatal(err)
		}
		end(watch)
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Who leaves the loop can go on with it.
	watch, err := client.Watch(context.Background(), "", Filter{})
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Close()
	for number := range 2 {
		event, err := client.RecordEvent(context.Background(), Draft{Timestamp: int64(number), Snippet: "again", Kind: Note})
		if err != nil {
			t.Fatal(err)
		}
		for found, err := range watch.Events() {
			if err != nil || found.ID != event.ID {
				t.Fatalf("%v: %v", found, err)
			}
			break
		}
	}
}
