module github.com/realtime-go/realtime/examples/cluster

go 1.26.0

require (
	github.com/realtime-go/realtime v0.0.0
	github.com/realtime-go/realtime/broker/redis v0.0.0
	github.com/realtime-go/realtime/examples v0.0.0
	github.com/stretchr/testify v1.12.1
)

require (
	github.com/chromedp/cdproto v0.159.0 // indirect
	github.com/chromedp/chromedp v0.23.0 // indirect
	github.com/coder/websocket v1.8.15 // indirect
	github.com/go-json-experiment/json v0.0.0-20260213210345-44df1a37e875 // indirect
	github.com/google/uuid v1.6.0 // indirect
	github.com/redis/rueidis v1.0.79 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/sys v0.47.0 // indirect
)

replace github.com/realtime-go/realtime => ../..

replace github.com/realtime-go/realtime/broker/redis => ../../broker/redis

replace github.com/realtime-go/realtime/broker/bolt => ../../broker/bolt

replace github.com/realtime-go/realtime/examples => ..
