package broker

// Position is a place in a stream: after the publication with this offset, or before all
// publications if the offset is zero.
//
// Offsets increase within a stream and may skip numbers. An epoch identifies one life of a stream:
// if the kept publications are lost, a stream of the same name begins anew with another epoch, so
// that an old position is never mistaken for one of the new stream.
type Position struct {
	Epoch  string `json:"epoch"`
	Offset uint64 `json:"offset"`
}

// Reason says why a stream cannot be continued from a position.
type Reason string

// The reasons.
const (
	ReasonExpired  Reason = "expired"  // they were too old
	ReasonOverflow Reason = "overflow" // they were too many or too large
	ReasonEpoch    Reason = "epoch"    // the kept publications were lost in the meantime
	ReasonAhead    Reason = "ahead"    // the stream has never had this position
	ReasonUnknown  Reason = "unknown"  // nothing is kept
	ReasonTaken    Reason = "taken"    // all readers have acknowledged what came after it, so nobody misses it
)
