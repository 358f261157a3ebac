# Each word is what CI calls, see .ci/run.

.PHONY: fmt lint test bench fuzz

fmt:
	gofmt -w .

lint:
	.ci/lint

test:
	go test -race -count=1 work

bench:
	go test -run '^$$' -bench . -benchmem ./ ./internal/...

fuzz:
	.ci/fuzz 60s
