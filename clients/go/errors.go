package localmem

import "context"

// Codes that a program may look for. The daemon has more of them.
const (
	CodeEvent          = "event"            // an event that cannot be recorded: Field says what is wrong
	CodeQuery          = "query"            // a call that cannot be answered: Field says what is wrong
	CodeConfig         = "config"           // a setting or a file that is not to be trusted
	CodeDaemon         = "daemon"           // no daemon, or one that went away
	CodeTimeout        = "timeout"          // no answer in time
	CodeUnauthorized   = "unauthorized"     // the daemon does not take the token
	CodeTooSlow        = "too_slow"         // who watched did not read fast enough
	CodeTooManyWatches = "too_many_watches" // more programs watch than a daemon tells
	CodeTooLarge       = "too_large"        // more than 32 MiB in one call
)

// Error is what the daemon refuses or this client finds. Compare with errors.Is by the code alone:
//
//	errors.Is(err, &localmem.Error{Code: localmem.CodeTimeout})
type Error struct {
	Code    string `json:"code"`    // stable, for programs
	Message string `json:"message"` // one line, for people
	Field   string `json:"field"`   // what was wrong of the call; empty where nothing is named
}

func (e *Error) Error() string {
	if e.Field != "" {
		return e.Code + ": " + e.Field + ": " + e.Message
	}
	return e.Code + ": " + e.Message
}

// Is tells whether target is an Error of the same code that says nothing further.
func (e *Error) Is(target error) bool {
	if target == context.DeadlineExceeded {
		return e.Code == CodeTimeout
	}
	other, ok := target.(*Error)
	return ok && other.Code == e.Code && other.Message == "" && other.Field == ""
}

func daemonError(message string) *Error {
	return &Error{Code: CodeDaemon, Message: message}
}
