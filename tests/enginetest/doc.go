// Package enginetest gives tests, benchmarks and the demo a real dockerd of their own, and a [Proxy] to stand between it and a
// client.
//
// A private engine shares nothing with the machine's own Docker: data root, exec root, pid file, socket, engine id, cgroup and
// bridge are its own, iptables and IP forwarding are left alone, and [Engine.Close] removes every trace. An
// engine whose test process died without closing it is removed by the next [Start] on the machine, or by [Sweep].
//
// A suite that needs an engine looks like this:
//
//	func TestMain(m *testing.M) { enginetest.Main(m) }
//
//	func TestSomething(t *testing.T) {
//		engine := enginetest.ForTest(t) // shared by this test binary; skips where no dockerd can run
//		engine.Clean(t)
//		engine.ImportBusybox(t, "busybox:latest")
//		engine.Docker(t, "run", "-d", "--name", "web", "busybox", "sleep", "1000")
//	}
//
// A test that kills, freezes or restarts its engine takes one of its own with [New].
//
// Processes are signalled only after their pid and start time were compared, and only through a process handle that cannot move
// on to another process.
package enginetest
