// Package store holds every resource of the instance and the history of changes, as one immutable Root after another.
//
// The Table is outside of the actor: readers load a Root and never wait, and a panic of the actor loses the message being
// handled, nothing else. Only the actor publishes, one Root per change, so that there is one total order of versions.
// An object in a Root is never changed again by anybody.
package store
