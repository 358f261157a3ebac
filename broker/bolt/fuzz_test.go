package bolt

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/broker"
)

// Any value is either the one that was written, or is refused.
func FuzzRecord(f *testing.F) {
	key := offsetKey(7, 9)
	for _, p := range []broker.Publication{
		counting("room/a", 1, 10), {}, {Message: broker.Message{Binary: []byte{}, TTL: time.Second}},
	} {
		value, err := newRecord(&p)
		require.NoError(f, err)
		f.Add([]byte(key), stamp(key, value, time.Unix(1, 2)), true)
		f.Add([]byte(key), value[sumBytes:], false)
	}
	f.Add([]byte{}, []byte{}, false)
	f.Fuzz(func(t *testing.T, key, value []byte, sealed bool) {
		if sealed && len(value) >= sumBytes {
			value = seal(key, bytes.Clone(value))
		}
		before := bytes.Clone(value)
		if r, ok := readRecord(key, value); ok {
			if p, err := r.publication(); err == nil {
				again, err := newRecord(&p)
				require.NoError(t, err)
				_, ok := readRecord(key, stamp(key, again, p.At))
				require.True(t, ok)
			} else {
				require.ErrorIs(t, err, broker.ErrPublication)
			}
			_ = r.expired(time.Now())
		}
		if st, ok := readState(key, value); ok && st.number != 0 {
			again, ok := readState(key, st.value(key))
			require.True(t, ok)
			require.Equal(t, st, again)
		}
		require.Equal(t, before, value)
	})
}

// One flipped bit anywhere in the value or the key is detected.
func FuzzBit(f *testing.F) {
	f.Add([]byte("key"), []byte("value"), uint(3))
	f.Fuzz(func(t *testing.T, key, payload []byte, bit uint) {
		value := seal(key, append(make([]byte, sumBytes), payload...))
		_, ok := unseal(key, value)
		require.True(t, ok)
		turn := func(b []byte) { b[bit/8%uint(len(b))] ^= 1 << (bit % 8) }
		turn(value)
		_, ok = unseal(key, value)
		require.False(t, ok)
		turn(value)
		if len(key) > 0 {
			key = bytes.Clone(key)
			turn(key)
			_, ok = unseal(key, value)
			require.False(t, ok)
		}
	})
}
