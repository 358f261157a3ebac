// Package recovery gives the subscribers of a stream what they missed, once and in order.
//
// A [Topic] is a stream that the process is subscribed to. A [Subscription] is the place of one
// connection in it, and a [Fetcher] reads what subscriptions missed. The states of a subscription:
//
//	          queue full, or Begin at an older position
//	live  ------------------------------------------------>  lagging
//	 ^                                                         |
//	 |  position = end of the topic                            |  Fetcher reads pages,
//	 +---------------------------------------------------------+  collecting what is delivered
//	 |                                                         |  during the last one
//	 |  the awaited publication is delivered                   v
//	 +-----------------------------------------------------  ahead: has read a publication
//	                                                         that is about to be delivered
//
// Subscriptions that need the same page share one read of the broker.
//
// While a subscription lags, or while publications that were not for it have not been reported, the
// package has called [Subscriber.SetNeedsCheck] with true. Otherwise a delivery pushes to the queue
// directly.
package recovery
