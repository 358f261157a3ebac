package tickets

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var box Box[int]
		_, ok := box.Take("")
		require.False(t, ok)
		first, err := box.Issue("a-", "alice", 1)
		require.NoError(t, err)
		second, err := box.Issue("a-", "bob", 2)
		require.NoError(t, err)
		require.NotEqual(t, first, second)
		require.Regexp(t, `^a-[A-Z2-7]{26}$`, first)
		value, ok := box.Take(first)
		require.True(t, ok)
		require.Equal(t, 1, value)
		_, ok = box.Take(first)
		require.False(t, ok, "again")
		time.Sleep(Time)
		_, ok = box.Take(second)
		require.False(t, ok, "it has expired")
	})
}

func TestDiscard(t *testing.T) {
	var box Box[int]
	box.Discard("nobody")
	var names []string
	for _, user := range []string{"alice", "bob", "alice"} {
		name, err := box.Issue("", user, 0)
		require.NoError(t, err)
		names = append(names, name)
	}
	box.Discard("alice")
	box.Discard("alice")
	for i, want := range []bool{false, true, false} {
		_, ok := box.Take(names[i])
		require.Equal(t, want, ok)
	}
}

func TestBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var box Box[int]
		issue := func(user string, n int) (names []string, err error) {
			for range n {
				name, err := box.Issue("", user, 0)
				if err != nil {
					return names, err
				}
				names = append(names, name)
			}
			return names, nil
		}
		names, err := issue("mallory", 1000)
		require.ErrorIs(t, err, ErrFull, "tickets of one user are bounded")
		require.Len(t, names, maxUser)
		_, ok := box.Take(names[50])
		require.True(t, ok)
		_, err = issue("mallory", 1)
		require.NoError(t, err, "a used ticket does not count")
		_, err = issue("mallory", 1)
		require.ErrorIs(t, err, ErrFull)

		names, err = issue("", maxAll)
		require.ErrorIs(t, err, ErrFull, "anonymous tickets are bounded")
		require.Len(t, names, maxAnonymous)
		_, err = issue("alice", 1)
		require.NoError(t, err)
		for i := range 600 {
			if _, err = issue(strconv.Itoa(i), maxUser); err != nil {
				break
			}
		}
		require.ErrorIs(t, err, ErrFull)
		_, err = issue("bob", 1)
		require.ErrorIs(t, err, ErrFull, "all tickets are bounded")

		time.Sleep(Time)
		_, err = issue("bob", maxUser)
		require.NoError(t, err)
		_, err = issue("mallory", maxUser)
		require.NoError(t, err)
	})
}

// The cost of Issue does not depend on how many tickets exist or have expired.
func TestIssueCostIsConstant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var box Box[int]
		for range maxAnonymous {
			_, err := box.Issue("", "", 0)
			require.NoError(t, err)
		}
		refused := testing.AllocsPerRun(100, func() { _, _ = box.Issue("", "", 0) })
		require.LessOrEqual(t, refused, 3.0, "Issue copies nothing")
		time.Sleep(Time)
		_, err := box.Issue("", "", 0)
		require.NoError(t, err)
	})
}
