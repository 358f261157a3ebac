package realtime

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/internal/wire"
)

// A client learns of an error only if that is in the table or is an Error with a valid code.
func TestErrorReply(t *testing.T) {
	require.Nil(t, errorReply(nil))
	secret := errors.New("a secret")
	for _, test := range []struct {
		err  error
		want Error
	}{
		{secret, Error{Code: wire.CodeInternal, Message: "internal error"}},
		{fmt.Errorf("secret: %w", ErrDenied), Error{Code: wire.CodeDenied, Message: "denied"}},
		{ErrFull, Error{Code: wire.CodeLimit, Message: "no more may be kept"}},
		{errShare, Error{
			Code: wire.CodeLimit, Message: "no more may be kept: the inbox has the sender's share",
		}},
		{fmt.Errorf("%w: of the broker", ErrInvalidName), Error{Code: wire.CodeBadRequest, Message: "invalid name"}},
		{&applicationError{ErrInvalidName}, Error{Code: wire.CodeInternal, Message: "internal error"}},
		{&applicationError{ErrForbidden}, Error{Code: wire.CodeForbidden, Message: "forbidden"}},
		{&applicationError{&Error{Code: "sold_out", Message: "no more"}}, Error{Code: "sold_out", Message: "no more"}},
		{&applicationError{&Error{Code: "\n", Message: "a secret"}}, Error{Code: wire.CodeInternal, Message: "internal error"}},
		{(*Error)(nil), Error{Code: wire.CodeInternal, Message: "internal error"}},
	} {
		require.Equal(t, &test.want, errorReply(test.err), "%v", test.want)
	}
	// Go programs and clients see the same words.
	for _, known := range errorReplies {
		require.Equal(t, "realtime: "+known.message, known.err.Error())
	}
}
