package supervisor

import (
	"context"
	"encoding/json"
	"fmt"

	jsonpatch "github.com/evanphx/json-patch/v5"

	"github.com/rdd-desktop/rdd/actors/admission"
	"github.com/rdd-desktop/rdd/actors/mirror"
	"github.com/rdd-desktop/rdd/actors/store"
	"github.com/rdd-desktop/rdd/messages"
)

func (r *Rdd) write(ctx context.Context, kind messages.Kind, item store.Item, m messages.WriteRequest) (*messages.WriteReply, error) {
	if kind.Name == messages.KindApp {
		return r.writeApp(ctx, kind, item.Object, m)
	}
	ask := mirror.Write{Owner: item.Owner, Name: m.Name, Request: m}
	if item.Object != nil {
		ask.Name = item.Object.GetName()
	} else {
		ask.Owner = m.Name
	}
	answer, err := r.house.Ask(ctx, ownersOf[kind.Name], ask)
	if err != nil {
		return nil, err
	}
	done, ok := answer.(mirror.Written)
	if !ok {
		return nil, messages.NewError(messages.CodeInternal, "write", kind.Name, ask.Name, fmt.Sprintf("unexpected answer %T", answer))
	}
	return done.Reply, done.Err
}

// writeApp makes a change of the App one of its spec, which its actor takes like any other. With a precondition, and with a JSON
// patch, which may test, the spec must still be the one that was looked at.
func (r *Rdd) writeApp(ctx context.Context, kind messages.Kind, now messages.Object, m messages.WriteRequest) (*messages.WriteReply, error) {
	if now == nil {
		return nil, messages.NewError(messages.CodeUnavailable, "write", kind.Name, m.Name, "it is not there yet; try again")
	}
	res, err := admission.Admit(kind, now, m)
	if err != nil {
		return nil, err
	}
	patch, err := specPatch(now.(*messages.App).Spec, res.Object.(*messages.App).Spec)
	if err != nil {
		return nil, messages.WrapError(messages.CodeInternal, "write", kind.Name, m.Name, err)
	}
	set := messages.SetRequest{Patch: patch, DryRun: m.DryRun}
	if preconditioned(m) {
		set.IfGeneration = now.GetGeneration()
	}
	reply, err := r.set(ctx, set)
	if err != nil {
		return nil, err
	}
	return &messages.WriteReply{Object: reply.App, Changed: reply.Changed, Warnings: append(res.Warnings, reply.Warnings...)}, nil
}

// preconditioned reports whether a request depends on what the resource was.
func preconditioned(m messages.WriteRequest) bool {
	var p struct {
		Metadata struct {
			UID             string `json:"uid"`
			ResourceVersion string `json:"resourceVersion"`
		} `json:"metadata"`
	}
	return m.PatchType == messages.PatchJSON || m.UID != "" || m.ResourceVersion != "" ||
		json.Unmarshal(m.Patch, &p) == nil && p.Metadata.UID+p.Metadata.ResourceVersion != ""
}

func specPatch(was, now messages.AppSpec) ([]byte, error) {
	before, err := json.Marshal(was)
	if err != nil {
		return nil, err
	}
	after, err := json.Marshal(now)
	if err != nil {
		return nil, err
	}
	return jsonpatch.CreateMergePatch(before, after)
}
