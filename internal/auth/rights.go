package auth

import (
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast"
)

// Role is what somebody is to the installation. Each user has one.
type Role string

// The roles.
const (
	RoleAdministrator Role = "administrator" // everything
	RoleOperator      Role = "operator"      // backs up and restores; sets up nothing that others rest on
	RoleRestorer      Role = "restorer"      // brings back what others backed up
	RoleViewer        Role = "viewer"        // looks
)

// Roles are all roles, from the most to the least.
func Roles() []Role { return []Role{RoleAdministrator, RoleOperator, RoleRestorer, RoleViewer} }

// ParseRole reads the name of a role.
func ParseRole(text string) (Role, error) {
	if role := Role(text); slices.Contains(Roles(), role) {
		return role, nil
	}
	return "", holdfast.Errorf(holdfast.KindInvalid, "%.40q is not a role", text).WithHint("one of %s", join(Roles())).WithField("role")
}

// Right is a thing that one may or may not do; the words complete "may not …".
type Right string

// The rights.
const (
	SeeOverview     Right = "see the overview"
	SeeMachines     Right = "see machines"
	SeePolicies     Right = "see policies"
	ChangePolicies  Right = "change policies"
	RunPolicies     Right = "start policies" // by hand; manual snapshots too
	SeeTemplates    Right = "see templates"
	ChangeTemplates Right = "change templates"
	SeePoints       Right = "see restore points"
	Restore         Right = "restore" // machines, disks and files
	RemovePoints    Right = "remove restore points"
	SeeSessions     Right = "see sessions"
	StopSessions    Right = "stop sessions"
	SeeSettings     Right = "see settings" // repositories, accounts, mail, webhooks
	ChangeSettings  Right = "change settings"
	ManageUsers     Right = "manage users" // and see the tokens of others, and revoke them
	OwnAccount      Right = "change the own password and tokens"
)

// Rights are all rights.
func Rights() []Right {
	return []Right{
		SeeOverview, SeeMachines, SeePolicies, ChangePolicies, RunPolicies, SeeTemplates, ChangeTemplates, SeePoints, Restore, RemovePoints, SeeSessions, StopSessions,
		SeeSettings, ChangeSettings, ManageUsers, OwnAccount,
	}
}

// granted is the one table of who may do what.
var granted = map[Role][]Right{
	RoleAdministrator: Rights(),
	RoleOperator: {
		SeeOverview, SeeMachines, SeePolicies, ChangePolicies, RunPolicies, SeeTemplates, ChangeTemplates, SeePoints, Restore, RemovePoints, SeeSessions, StopSessions, OwnAccount,
	},
	RoleRestorer: {SeePoints, Restore, SeeSessions, StopSessions, OwnAccount},
	RoleViewer:   {SeeOverview, SeePolicies, SeePoints, SeeSessions, OwnAccount},
}

// Has reports whether a role has a right. An unknown role has none.
func (r Role) Has(right Right) bool { return slices.Contains(granted[r], right) }

// Within reports whether a role has no right that another one has not.
func (r Role) Within(other Role) bool {
	return !slices.ContainsFunc(granted[r], func(right Right) bool { return !other.Has(right) })
}

func rolesWith(right Right) string {
	var roles []Role
	for _, r := range Roles() {
		if r.Has(right) {
			roles = append(roles, r)
		}
	}
	return join(roles)
}

func join(roles []Role) string {
	var names []string
	for _, r := range roles {
		names = append(names, string(r))
	}
	return strings.Join(names, ", ")
}
