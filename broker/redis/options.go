package redis

import (
	"cmp"
	"crypto/tls"
	"errors"
	"log/slog"
	"time"
)

// Options configures [New]. Nil and the zero Options mean the defaults. All processes that share
// streams must have the same Prefix, Buckets, ForgetAfter and Durable.
type Options struct {
	// Addrs are the addresses of the server, of the sentinels, or of some servers of a Redis
	// Cluster. Default: 127.0.0.1:6379.
	Addrs []string
	// Username and Password authenticate to the servers. The user needs the commands CLIENT, CLUSTER,
	// EVAL, EVALSHA, HELLO, INFO, PING, SPUBLISH, SSUBSCRIBE and SUNSUBSCRIBE, those of the scripts,
	// and all keys and channels that begin with the prefix.
	Username, Password string
	// TLS, if not nil, encrypts all connections.
	TLS *tls.Config
	// Sentinel is the name of the master if Addrs are those of sentinels.
	Sentinel string
	// SentinelUsername and SentinelPassword authenticate to the sentinels.
	SentinelUsername, SentinelPassword string
	// Cluster means that Addrs are servers of a Redis Cluster.
	Cluster bool

	// Prefix is the beginning of all keys and channels. Each application on one server needs its
	// own. Default: "realtime".
	Prefix string
	// Buckets is the number of parts into which all names are divided. In a Redis Cluster each part
	// is on one server, and each process has a connection for each part. It must not change as long
	// as there is data. Default: 16.
	Buckets int
	// Timeout bounds each call. After this time without the server, the process counts as cut off
	// from the others. Default: 5 s, which is also the most: after 6 s the others take the process
	// for dead, and it must know that before.
	Timeout time.Duration
	// ForgetAfter is how long after its last publication a stream ends. It is at least an hour more
	// than the age to which the stream keeps publications. Default: a week.
	ForgetAfter time.Duration
	// Durable means that the engine loses nothing that it has acknowledged, also if a server
	// restarts or another one takes its place. Otherwise all streams get new epochs then: they keep
	// what the server has kept, but receivers are told that they may have missed publications.
	// Wrong use of this option makes receivers miss publications without notice.
	Durable bool
	// Logger receives errors that are returned to no caller, such as why there is no connection.
	// Default: slog.Default().
	Logger *slog.Logger
}

const (
	defaultPrefix  = "realtime"
	defaultBuckets = 16
	maxBuckets     = 1024
	defaultTimeout = 5 * time.Second
	defaultForget  = 7 * 24 * time.Hour
)

// resolved returns the options with the defaults filled in.
func (o *Options) resolved() (Options, error) {
	if o == nil {
		o = &Options{}
	}
	r := *o
	if len(r.Addrs) == 0 {
		r.Addrs = []string{"127.0.0.1:6379"}
	}
	r.Prefix = cmp.Or(r.Prefix, defaultPrefix)
	r.Buckets = cmp.Or(r.Buckets, defaultBuckets)
	r.Timeout = cmp.Or(r.Timeout, defaultTimeout)
	r.ForgetAfter = cmp.Or(r.ForgetAfter, defaultForget)
	r.Logger = cmp.Or(r.Logger, slog.Default())
	switch {
	case r.Buckets < 0 || r.Buckets > maxBuckets:
		return r, errors.New("redis: Options.Buckets must be between 1 and 1024")
	case r.Timeout < 0 || r.Timeout > defaultTimeout:
		return r, errors.New("redis: Options.Timeout must be at most 5 s")
	case r.ForgetAfter < 0:
		return r, errors.New("redis: Options.ForgetAfter must not be negative")
	case r.Cluster && r.Sentinel != "":
		return r, errors.New("redis: Options.Cluster and Sentinel exclude each other")
	}
	return r, nil
}
