// Package messages is rdd's vocabulary: the resource types and their kinds, conditions and reasons, the errors with the
// class that decides what happens next, and the wire between a client and the daemon.
//
// It imports nothing of ours. Everything in it is a value: safe to copy with DeepCopy, safe to send, equal to its JSON
// after a round trip. JSON is exactly what kubectl would show for the same resource.
//
// An embedder needs this package and package supervisor, nothing else.
package messages

//go:generate go tool deepcopy-gen --output-file zz_generated.deepcopy.go --go-header-file /dev/null .
//go:generate protoc --go_out=. --go_opt=paths=source_relative wire.proto
