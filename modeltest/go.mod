module github.com/realtime-go/realtime/modeltest

go 1.26

require github.com/realtime-go/realtime v0.0.0

require (
	github.com/stretchr/testify v1.12.1 // indirect
	go.uber.org/goleak v1.3.0 // indirect
	pgregory.net/rapid v1.3.0 // indirect
)

replace github.com/realtime-go/realtime => ../
