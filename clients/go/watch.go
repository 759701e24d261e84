//go:build unix

package localmem

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"time"
)

const (
	heartbeat    = 15                          // seconds of quiet after which the daemon says that it is there
	silence      = 3 * heartbeat * time.Second // after which it is lost
	lineBytesMax = 1 << 20                     // of an event as JSON
	againFirst   = 50 * time.Millisecond       // before the next daemon is looked for, growing up to
	againLast    = 500 * time.Millisecond
)

// passing are reasons of a daemon to come again, for who has watched already.
var passing = map[string]bool{
	codeStopping: true, CodeTooSlow: true, CodeTooManyWatches: true, CodeDaemon: true, CodeTimeout: true,
}

// codeStopping is of a daemon that ends: the next one can be watched.
const codeStopping = "stopping"

// Watch is a stream of events as they become durable here.
type Watch struct {
	client   *Client
	ctx      context.Context
	cancel   context.CancelFunc
	filter   Filter
	after    string
	begun    bool
	complete bool
	stream   *stream
}

// Watch begins to watch: when it returns, the daemon tells everything that is recorded from then on,
// and first what was recorded after the event with the id `after`, unless that is empty.
//
// It ends with its context, or by Close.
func (c *Client) Watch(ctx context.Context, after string, filter Filter) (*Watch, error) {
	// Not the time that a call may take: it goes on for as long as it is watched.
	whole, cancel := context.WithCancel(ctx)
	watch := &Watch{client: c, ctx: whole, cancel: cancel, filter: filter, after: after, complete: true}
	if err := watch.begin(c.starts); err != nil {
		cancel()
		return nil, err
	}
	return watch, nil
}

// Complete is false once events of other devices may have been left out: after an interruption, or
// where the event `after` is gone.
func (w *Watch) Complete() bool { return w.complete }

// Close ends the watch, also for who waits for an event.
func (w *Watch) Close() { w.cancel() }

// Events are told one after the other, each once, to one goroutine. When the daemon ends or is
// replaced, the watch goes on with the next one, behind the last event; it starts none by itself, so
// that one that its user stopped stays so. The last pair has the error that ended it: that of the
// context (after Close it is context.Canceled), or what the daemon refuses.
func (w *Watch) Events() iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for {
			event, err := w.next()
			if !yield(event, err) || err != nil {
				return
			}
		}
	}
}

// next waits for an event, of whatever daemon there is.
func (w *Watch) next() (Event, error) {
	again := againFirst
	for {
		if w.stream == nil {
			if err := w.begin(false); w.isFinal(err) {
				return Event{}, err
			} else if err != nil {
				if pause(w.ctx, again) != nil {
					return Event{}, w.ctx.Err()
				}
				again = min(2*again, againLast)
				continue
			}
		}
		event, err := w.stream.next()
		if err == nil {
			w.after = event.ID
			return event, nil
		}
		w.stream.close()
		w.stream = nil
		if w.ctx.Err() != nil {
			return Event{}, w.ctx.Err()
		}
		if w.isFinal(err) {
			return Event{}, err
		}
	}
}

// isFinal tells whether another daemon would not make it good.
func (w *Watch) isFinal(err error) bool {
	if w.ctx.Err() != nil {
		return err != nil
	}
	var known *Error
	return errors.As(err, &known) && !passing[known.Code]
}

// begin asks a daemon to tell, and waits until it says that it does.
func (w *Watch) begin(starts bool) error {
	if w.begun && w.after == "" {
		w.complete = false // nothing was there before, so nothing says where to go on
	}
	body := struct {
		After     string `json:"after,omitempty"`
		Heartbeat int    `json:"heartbeat_s"`
		Filter
	}{w.after, heartbeat, w.filter}
	data, err := encoded(body, append(w.filter.fields(), field{"after", w.after})...)
	if err != nil {
		return err
	}
	for attempt := 1; ; attempt++ {
		one, err := w.client.opened(w.ctx, starts)
		if err != nil {
			return reason(w.ctx, err)
		}
		err = w.listen(one, data)
		var known *Error
		if err == nil || errors.As(err, &known) || w.ctx.Err() != nil {
			return reason(w.ctx, err)
		}
		if attempt == attempts {
			return daemonError("the daemon went away before it answered: " + err.Error())
		}
		_ = pause(w.ctx, time.Duration(attempt)*againFirst)
	}
}

// listen is the beginning over one connection, which is closed unless the daemon tells.
func (w *Watch) listen(one *connection, body []byte) error {
	limited, cancel := context.WithTimeout(w.ctx, w.client.timeout)
	defer cancel()
	err := w.hear(limited, one, body)
	if err != nil && limited.Err() != nil {
		return errTimeout
	}
	return err
}

func (w *Watch) hear(limited context.Context, one *connection, body []byte) error {
	stop := context.AfterFunc(limited, one.close)
	response, err := w.client.begin(one, request{method: "POST", path: "/v1/watch", body: body})
	if err != nil {
		stop()
		one.close()
		return err
	}
	if response.StatusCode != 200 {
		defer one.close()
		defer stop()
		data, err := io.ReadAll(io.LimitReader(response.Body, answerBytesMax))
		if err != nil {
			return err
		}
		return understood(response.StatusCode, data, nil)
	}
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, lineBytesMax)
	found := &stream{connection: one, lines: lines}
	first, err := found.line()
	if err == nil && first.Watching == nil {
		err = notUnderstood(200)
	}
	if !stop() && err == nil {
		err = limited.Err()
	}
	if err != nil {
		one.close()
		return err
	}
	found.stop = context.AfterFunc(w.ctx, one.close)
	w.stream, w.begun = found, true
	w.complete = w.complete && first.Watching.Complete
	if first.Watching.After != "" {
		w.after = first.Watching.After
	}
	return nil
}

// stream is what one daemon tells.
type stream struct {
	connection *connection
	lines      *bufio.Scanner
	stop       func() bool
}

type line struct {
	Watching *struct {
		Complete bool
		After    string
	}
	Event     *Event
	Heartbeat bool
	Error     *Error
}

func (s *stream) close() {
	s.stop()
	s.connection.close()
}

// next is the next event; an error of another type than *Error says that the daemon is gone.
func (s *stream) next() (Event, error) {
	for {
		if err := s.connection.socket.SetReadDeadline(time.Now().Add(silence)); err != nil {
			return Event{}, err
		}
		one, err := s.line()
		if err != nil {
			return Event{}, err
		}
		if one.Event != nil {
			return *one.Event, nil
		}
		if !one.Heartbeat {
			return Event{}, notUnderstood(200)
		}
	}
}

func (s *stream) line() (line, error) {
	var one line
	if !s.lines.Scan() {
		if err := s.lines.Err(); err != nil {
			return one, err
		}
		return one, io.ErrUnexpectedEOF
	}
	if json.Unmarshal(s.lines.Bytes(), &one) != nil {
		return one, notUnderstood(200)
	}
	if one.Error != nil {
		return one, one.Error
	}
	return one, nil
}
