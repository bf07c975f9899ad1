// Package sim is a Docker Engine in memory: a small working engine for tests, not a list of expected calls.
//
// [New] makes the world, an [Engine]. A test changes it the way a user of docker would (Import, CreateContainer, Start, Stop,
// Rmi, ...), rdd sees it through the port ([Engine.Dialer]), and in the end the test compares rdd's mirror with
// [Engine.Snapshot].
//
// The events it sends, and those it does not send, are those measured on a real engine: an untag does not name the tag, the
// loser of a moved tag is not announced, a volume prune has no destroy, a failed start has neither start nor die. What is
// refused, and with which class of error, is the real engine's too; tests/conformance holds both to the same rules.
//
// Faults come on script ([Engine.Faults]): hanging, slow, failing and panicking calls, lost answers, lost events, cut streams, a
// wrong clock. [Engine.Down], [Engine.Up], [Engine.Freeze], [Engine.Thaw] and [Engine.Replace] are the engine's life.
//
// There is no network, and no goroutine but those of timers (restart policies, ContainerOptions.RunFor): a world made inside
// a bubble of testing/synctest lives in that bubble's time. All methods may be called concurrently.
package sim
