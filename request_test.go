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
		{secret, Error{wire.CodeInternal, "internal error"}},
		{fmt.Errorf("secret: %w", ErrDenied), Error{wire.CodeDenied, "denied"}},
		{ErrFull, Error{wire.CodeLimit, "no more may be kept"}},
		{errShare, Error{wire.CodeLimit, "no more may be kept: the inbox has the sender's share"}},
		{fmt.Errorf("%w: of the broker", ErrInvalidName), Error{wire.CodeBadRequest, "invalid name"}},
		{&applicationError{ErrInvalidName}, Error{wire.CodeInternal, "internal error"}},
		{&applicationError{ErrForbidden}, Error{wire.CodeForbidden, "forbidden"}},
		{&applicationError{&Error{"sold_out", "no more"}}, Error{"sold_out", "no more"}},
		{&applicationError{&Error{"\n", "a secret"}}, Error{wire.CodeInternal, "internal error"}},
		{(*Error)(nil), Error{wire.CodeInternal, "internal error"}},
	} {
		require.Equal(t, &test.want, errorReply(test.err), "%v", test.want)
	}
	// Go programs and clients see the same words.
	for _, known := range errorReplies {
		require.Equal(t, "realtime: "+known.reply.Message, known.err.Error())
	}
}
