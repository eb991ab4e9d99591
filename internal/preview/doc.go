// Package preview says beforehand what policies will do: it runs the very engines of the scheduler, scope, plan, retention
// and the SLA ledger, on a virtual clock over an inventory, and yields what happens as events.
//
// It promises that its events are those of a world in which every session succeeds at once, in order of time; that a
// preview of some days and then some more yields what a preview of all of them does; and that its memory depends on the
// points that exist at one time, not on how long it runs. Machines that a policy cannot tell apart are gone through once
// (group.go), so an estate of thousands costs what its variety costs.
//
// It must never reach for the cloud, a store or a clock. What events are called is a closed list (event.go), which the
// simulator uses as well, so that the two can be compared.
package preview
