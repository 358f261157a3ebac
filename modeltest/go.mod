module github.com/realtime-go/realtime/modeltest

go 1.26

require github.com/realtime-go/realtime v0.0.0

replace github.com/realtime-go/realtime => ../
