package broker

// Query selects a part of a stream.
type Query struct {
	// After and Before bound the offsets, both exclusively. Zero: no bound.
	After, Before uint64
	// Backwards returns the newest publications first.
	Backwards bool
	// Limit is the maximum number of publications, and Bytes their maximum total size, as
	// [Publication.Size] counts it. The first publication is returned whatever its size. Zero: 100
	// and 64 KiB.
	Limit, Bytes int
}

// The defaults of Query.
const (
	defaultLimit     = 100
	DefaultPageBytes = 64 << 10
)

// Resolved returns q with its defaults filled in. Brokers call it.
func (q Query) Resolved() Query {
	if q.Limit <= 0 {
		q.Limit = defaultLimit
	}
	if q.Bytes <= 0 {
		q.Bytes = DefaultPageBytes
	}
	return q
}

// Page is a part of a stream, at one moment.
type Page struct {
	// Publications are in the order of the query, without those whose time to live has passed.
	Publications []Publication
	// More means that there are more publications within the bounds of the query.
	More bool
	// Top is the position of the newest publication, even if it is no longer kept. Its epoch is
	// empty if the stream does not exist.
	Top Position
	// Floor is the offset of the newest publication that is no longer kept, zero if all are kept:
	// the stream is complete after Floor.
	Floor uint64
	// Why says why the publications up to Floor are gone: [ReasonExpired], [ReasonOverflow] or
	// [ReasonTaken], or [ReasonEpoch] if they were damaged. Empty if Floor is zero.
	Why Reason
}

// Size returns approximately how much memory the publications take, in bytes.
func (pg *Page) Size() (bytes int) {
	for i := range pg.Publications {
		bytes += pg.Publications[i].Size()
	}
	return bytes
}

// GapAfter says whether a reader can continue from p with this page and the pages after it. It
// returns "" if everything after p is still kept, and else the reason why not: there is no such
// stream, it has another epoch, it has never had p, or publications after p are gone.
func (pg *Page) GapAfter(p Position) Reason {
	switch {
	case pg.Top.Epoch == "":
		return ReasonUnknown
	case p.Epoch != pg.Top.Epoch:
		return ReasonEpoch
	case p.Offset > pg.Top.Offset:
		return ReasonAhead
	case p.Offset < pg.Floor:
		return pg.Why
	}
	return ""
}

// Bottom returns the position before all kept publications.
func (pg *Page) Bottom() Position { return Position{pg.Top.Epoch, pg.Floor} }
