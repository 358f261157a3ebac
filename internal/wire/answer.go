package wire

import (
	"strconv"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/sendqueue"
)

// Joined says where a connection begins in a room.
type Joined struct {
	At    broker.Position // zero in a room that keeps nothing
	Top   uint64          // the offset of the newest message
	Lossy bool            // the room drops messages for good

	Key  string // of the client's own entry; empty: the room does not show it
	Show string // what the room shows to the client; empty: it has not asked

	Since     bool // the client named the position that it knows
	Recovered bool // it gets everything after that
	Reason    broker.Reason
}

// Content returns the content of the answer to a join, or nil if there is nothing to say.
func (j *Joined) Content() []byte {
	buf := []byte{'{'}
	if j.At.Epoch != "" {
		buf = AppendString(append(buf, `"epoch":`...), j.At.Epoch)
		buf = strconv.AppendUint(append(buf, `,"offset":`...), j.At.Offset, 10)
		buf = strconv.AppendUint(append(buf, `,"top":`...), j.Top, 10)
	}
	if j.Lossy {
		buf = append(separate(buf), `"lossy":true`...)
	}
	if j.Since {
		buf = separate(buf)
		buf = strconv.AppendBool(append(buf, `"recovered":`...), j.Recovered)
		if !j.Recovered {
			buf = AppendString(append(buf, `,"reason":`...), string(j.Reason))
		}
	}
	if j.Key != "" {
		buf = AppendString(append(separate(buf), `"key":`...), j.Key)
	}
	if j.Show != "" {
		buf = AppendString(append(separate(buf), `"show":`...), j.Show)
	}
	if len(buf) == 1 {
		return nil
	}
	return append(buf, '}')
}

// separate appends a comma, unless the next member of the object is the first one.
func separate(buf []byte) []byte {
	if buf[len(buf)-1] != '{' {
		buf = append(buf, ',')
	}
	return buf
}

// Frame returns the frame that tells a client that it was put into a room.
func (j *Joined) Frame(room string) *sendqueue.Frame {
	buf := append(sendqueue.Grow(Overhead), `{"message_type":"`+FrameJoined+`","room":`...)
	return sendqueue.Seal(sendqueue.OpText, AppendAnyContent(AppendString(buf, room), j.Content()))
}

// History returns the content of the answer to a request for the history of a room.
func History(room string, page *broker.Page) []byte {
	buf := AppendString([]byte(`{"epoch":`), page.Top.Epoch)
	buf = strconv.AppendUint(append(buf, `,"top":`...), page.Top.Offset, 10)
	buf = strconv.AppendBool(append(buf, `,"more":`...), page.More)
	buf = append(buf, `,"messages":[`...)
	for i := range page.Publications {
		p := &page.Publications[i]
		if i > 0 {
			buf = append(buf, ',')
		}
		buf = AppendKept(buf, &p.Message, &Envelope{Room: room, At: p.Position, Prev: p.Prev})
	}
	return append(buf, ']', '}')
}

// UserReceipt returns the content of the receipt for a message to a user.
func UserReceipt(kept bool, queued int, duplicate bool) []byte {
	buf := strconv.AppendBool([]byte(`{"kept":`), kept)
	buf = strconv.AppendInt(append(buf, `,"queued":`...), int64(queued), 10)
	return appendDuplicate(buf, duplicate)
}

// Receipt returns the content of the receipt for any other message, which is kept at a position or,
// if that is zero, not kept.
func Receipt(at broker.Position, duplicate bool) []byte {
	if at.Epoch == "" {
		return []byte("{}")
	}
	buf := strconv.AppendUint([]byte(`{"offset":`), at.Offset, 10)
	return appendDuplicate(AppendString(append(buf, `,"epoch":`...), at.Epoch), duplicate)
}

func appendDuplicate(buf []byte, duplicate bool) []byte {
	if duplicate {
		buf = append(buf, `,"duplicate":true`...)
	}
	return append(buf, '}')
}
