module github.com/realtime-go/realtime/examples

go 1.26

require github.com/realtime-go/realtime v0.0.0

require (
	github.com/coder/websocket v1.8.15 // indirect
	github.com/google/uuid v1.6.0 // indirect
)

replace github.com/realtime-go/realtime => ../
