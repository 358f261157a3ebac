module github.com/realtime-go/realtime/broker/redis

go 1.26

require (
	github.com/realtime-go/realtime v0.0.0
	github.com/redis/rueidis v1.0.79
)

require golang.org/x/sys v0.47.0 // indirect

replace github.com/realtime-go/realtime => ../..
