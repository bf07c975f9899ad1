package supervisor

import (
	"time"

	"github.com/rdd-desktop/rdd/actors/app"
	"github.com/rdd-desktop/rdd/actors/engine"
	"github.com/rdd-desktop/rdd/actors/journal"
	"github.com/rdd-desktop/rdd/actors/kit"
	"github.com/rdd-desktop/rdd/actors/mirror"
	"github.com/rdd-desktop/rdd/actors/store"
	"github.com/rdd-desktop/rdd/actors/vm"
)

// parts are what the tree's actors are made with.
type parts struct {
	journal journal.Backend
	table   *store.Table
	app     app.Deps
	vm      vm.Deps
	engine  *engine.Deps
	mirror  *mirror.Deps
}

// tree is the whole tree of core as one literal: order is start order, stop is the reverse. Object actors are no children of the
// watcher: it may die at any time and no resource blinks. The store is an elder sibling of all writers: who crashes loses
// its turn, not its resource.
func tree(p parts) kit.ChildSpec {
	slow := kit.Backoff{Min: 100 * time.Millisecond, Max: 30 * time.Second}
	return kit.ChildSpec{Name: "rdd", New: app.Root, GiveUp: kit.Report, Shutdown: 5 * time.Second, Children: []kit.ChildSpec{
		{Name: "journal", New: journal.New(p.journal), Max: 3, Period: 10 * time.Second, Shutdown: 10 * time.Second, GiveUp: kit.Report},
		{Name: "store", New: store.New(p.table), Max: 3, Period: 10 * time.Second, Shutdown: 5 * time.Second, GiveUp: kit.Report},
		{Name: "app", New: app.New(p.app), Backoff: slow, Max: 5, Period: 5 * time.Minute, Shutdown: 5 * time.Second, GiveUp: kit.Report},
		{Name: "vm", New: vm.New(p.vm), Backoff: slow, Max: 5, Period: 5 * time.Minute, Shutdown: 30 * time.Second, GiveUp: kit.Report},
		{Name: "engine", New: engine.New(p.engine), Backoff: slow, Max: 5, Period: 5 * time.Minute, Shutdown: 5 * time.Second, GiveUp: kit.Report,
			Children: []kit.ChildSpec{
				{Name: "session", Restart: kit.Transient, Backoff: kit.Backoff{Min: 50 * time.Millisecond, Max: time.Second},
					Max: 5, Period: 5 * time.Minute, Shutdown: 2 * time.Second, GiveUp: kit.Escalate},
			}},
		{Name: "containers", New: mirror.Containers(p.mirror), Max: 3, Period: 5 * time.Minute, Shutdown: 5 * time.Second, GiveUp: kit.Report},
		{Name: "images", New: mirror.Images(p.mirror), Max: 3, Period: 5 * time.Minute, Shutdown: 5 * time.Second, GiveUp: kit.Report},
		{Name: "volumes", New: mirror.Volumes(p.mirror), Max: 3, Period: 5 * time.Minute, Shutdown: 5 * time.Second, GiveUp: kit.Report},
		{Name: "namespaces", Max: 3, Period: 5 * time.Minute, Shutdown: 5 * time.Second, GiveUp: kit.Report, New: mirror.Namespaces(),
			Children: []kit.ChildSpec{
				{Name: "moby", New: mirror.Moby(p.mirror), Max: 5, Period: time.Minute, Shutdown: time.Second, GiveUp: kit.Escalate},
			}},
	}}
}
