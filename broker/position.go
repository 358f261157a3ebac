package broker

// Position is a place in a stream: behind the publication with this offset, or in front of all
// with offset zero.
//
// Offsets grow within a stream and may leave numbers out. An epoch is the life of a stream: if
// what was kept is lost, a stream of the same name begins anew with another epoch, so that an old
// position is never taken for one of the new stream.
type Position struct {
	Epoch  string `json:"epoch"`
	Offset uint64 `json:"offset"`
}

// Reason says why what was missed could not be recovered.
type Reason string

// The reasons.
const (
	ReasonExpired  Reason = "expired"  // it was too old
	ReasonOverflow Reason = "overflow" // it was too much
	ReasonEpoch    Reason = "epoch"    // what was kept has been lost meanwhile
	ReasonAhead    Reason = "ahead"    // the position is one that the stream has never had
	ReasonUnknown  Reason = "unknown"  // nothing is kept
	ReasonTaken    Reason = "taken"    // it is not lost: all readers have acknowledged it
)
