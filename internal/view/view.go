// Package view holds what the API gives and takes beside the nouns of the root package: the shapes that the server writes and that its
// clients read, so that both agree.
//
// It promises that a field which is there today keeps its name and meaning within one version of the API. It decides nothing and holds no
// behaviour but small sums.
package view

import (
	"time"

	"github.com/holdfast-backup/holdfast"
)

// List is one page of a long list.
type List[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty" doc:"what to give as after for the next page; not there on the last one"`
}

// Server is what a server says of itself to anybody.
type Server struct {
	Name         string    `json:"name" doc:"always holdfast"`
	Version      string    `json:"version"`
	API          string    `json:"api" doc:"version of the interface"`
	Installation string    `json:"installation,omitempty" doc:"id of the installation; only for who has signed in"`
	Now          time.Time `json:"now"`
}

// SignIn is a name and a password.
type SignIn struct {
	User     string `json:"user" minLength:"1" maxLength:"64"`
	Password string `json:"password" minLength:"1" maxLength:"1024"`
	Keep     bool   `json:"keep,omitempty" doc:"the token lasts thirty days after its last use, instead of twelve hours"`
}

// SignedIn is the token that was made for somebody.
type SignedIn struct {
	Token   string    `json:"token" doc:"to be sent as: Authorization: Bearer TOKEN"`
	User    string    `json:"user"`
	Role    string    `json:"role"`
	Expires time.Time `json:"expires"`
}

// Me is who asks.
type Me struct {
	User   string   `json:"user"`
	Role   string   `json:"role"`
	Rights []string `json:"rights" doc:"what the role may do"`
}

// NewPassword changes one's own password.
type NewPassword struct {
	Old string `json:"old" minLength:"1" maxLength:"1024"`
	New string `json:"new" minLength:"1" maxLength:"1024"`
}

// Document is one document as it is in force, or as it was.
type Document struct {
	Kind    string    `json:"kind"`
	Name    string    `json:"name"`
	Version int       `json:"version" doc:"of this document, from 1 on"`
	YAML    string    `json:"yaml,omitempty" doc:"in its canonical form; empty of a version that is a removal"`
	Created time.Time `json:"created,omitzero"`
	Updated time.Time `json:"updated"`
	Author  string    `json:"author"`
}

// Proposal is documents that somebody wants to be in force.
type Proposal struct {
	Files   []File            `json:"files" maxItems:"1000" doc:"with one or several documents each"`
	Prune   bool              `json:"prune,omitempty" doc:"documents that are in force and not in the proposal are removed"`
	Base    *int64            `json:"base,omitempty" doc:"version of the set of documents that the proposal was compared with; another one is refused"`
	Secrets map[string]string `json:"secrets,omitempty" doc:"passwords of what the documents declare, by name: repository/NAME, mail, webhook/NAME. They are sealed and never given out"`
}

// File is documents in YAML, as somebody has them.
type File struct {
	Name   string `json:"name" doc:"as mistakes are to name it"`
	Folder string `json:"folder,omitempty" doc:"absolute; relative paths in the documents begin there"`
	Data   string `json:"data"`
}

// Verb says what becomes of a document.
type Verb string

// The verbs.
const (
	Create    Verb = "create"
	Update    Verb = "update"
	Remove    Verb = "remove"
	Unchanged Verb = "unchanged"
)

// Change is what a proposal does to one document.
type Change struct {
	Kind    string   `json:"kind"`
	Name    string   `json:"name"`
	Verb    Verb     `json:"verb"`
	Version int      `json:"version" doc:"in force now; 0 of a new one"`
	Author  string   `json:"author,omitempty" doc:"who wrote the version in force"`
	Diff    []string `json:"diff,omitempty" doc:"lines, each with + for new, - for removed and a blank for unchanged ones before it"`
}

// Coverage is a machine whose protection a proposal changes.
type Coverage struct {
	VM     holdfast.ResourceID `json:"vm"`
	Before string              `json:"before,omitempty" doc:"policy that protects it now"`
	After  string              `json:"after,omitempty" doc:"policy that would"`
	Why    string              `json:"why"`
}

// Plan is what a proposal comes to. Nothing is changed by it.
type Plan struct {
	Base     int64      `json:"base" doc:"version of the set of documents that it was compared with"`
	Changes  []Change   `json:"changes"`
	Coverage []Coverage `json:"coverage" doc:"machines that would be protected by another policy, or by none"`
	Notes    []string   `json:"notes" doc:"what somebody should look at, such as points that retention would take"`
}

// Changed reports whether anything differs.
func (p Plan) Changed() bool {
	for _, c := range p.Changes {
		if c.Verb != Unchanged {
			return true
		}
	}
	return false
}

// Applied is what was changed.
type Applied struct {
	Plan
	Repositories []Connected `json:"repositories" doc:"those that were connected"`
}

// Connected is a repository that was opened, or made, when its document was written down.
type Connected struct {
	Name         string `json:"name"`
	URL          string `json:"url"`
	ID           string `json:"id"`
	Created      bool   `json:"created" doc:"there was none; one was made"`
	RecoveryCode string `json:"recoveryCode,omitempty" doc:"opens the repository when the password is lost; shown this once and kept nowhere"`
}

// Policy is a policy with how it is doing.
type Policy struct {
	Name        string              `json:"name"`
	Kind        holdfast.PolicyKind `json:"kind"`
	Description string              `json:"description,omitempty"`
	Enabled     bool                `json:"enabled"`
	Priority    int                 `json:"priority" doc:"order within the kind; 1 goes first"`
	Version     int                 `json:"version"`
	Template    string              `json:"template,omitempty" doc:"SLA template"`
	Storage     string              `json:"storage,omitempty" doc:"storage template"`
	Machines    int                 `json:"machines" doc:"that it protects"`
	Next        time.Time           `json:"next,omitzero" doc:"when its next session is due; not there when none is"`
	Running     []holdfast.RunID    `json:"running" doc:"its sessions that have not ended"`
	Last        *holdfast.Session   `json:"last,omitempty" doc:"its newest session that has ended"`
	YAML        string              `json:"yaml,omitempty" doc:"its document; of one policy alone"`
}

// PolicyPatch changes what a person sets without editing the document.
type PolicyPatch struct {
	Enabled  *bool `json:"enabled,omitempty"`
	Priority *int  `json:"priority,omitempty" minimum:"1" doc:"its place among the policies of its kind; the others move"`
}

// ClonePolicy names the copy.
type ClonePolicy struct {
	Name string `json:"name" minLength:"1" maxLength:"255"`
}

// Started is the sessions that answer what somebody asked for.
type Started struct {
	Sessions []holdfast.Session `json:"sessions" doc:"an SLA policy has one for each region; none when the policy protects no machine that is not in work"`
	Note     string             `json:"note,omitempty" doc:"why there is no session, or fewer than expected"`
}

// Stopped is the sessions that were asked to stop.
type Stopped struct {
	Sessions []holdfast.RunID `json:"sessions"`
}

// Session is a session with what follows from its figures.
type Session struct {
	holdfast.Session
	PerSecond        int64                  `json:"bytesPerSecond" doc:"read from Azure, over the time that it took so far"`
	RemainingSeconds *int64                 `json:"remainingSeconds,omitempty" doc:"estimate, of one that runs; not there when nothing can be said yet"`
	Machines         []holdfast.SessionItem `json:"machines,omitempty" doc:"the share of each machine; of one session alone"`
}

// Statistics is how sessions went in a stretch of time.
type Statistics struct {
	From     time.Time                `json:"from"`
	To       time.Time                `json:"to"`
	Sessions int                      `json:"sessions"`
	Running  int                      `json:"running"`
	Outcomes map[holdfast.Outcome]int `json:"outcomes"`
	Machines holdfast.ItemCounts      `json:"machines"`
	Bytes    holdfast.Bytes           `json:"bytes"`
	Seconds  int64                    `json:"seconds" doc:"that the sessions took together"`
}

// Machine is a virtual machine with who protects it.
type Machine struct {
	holdfast.InventoryVM
	Policy     string              `json:"policy,omitempty" doc:"that protects it; not there when none does"`
	PolicyKind holdfast.PolicyKind `json:"policyKind,omitempty"`
	Why        string              `json:"why" doc:"why this policy, or why none"`
	Refused    string              `json:"refused,omitempty" doc:"why no point can be made of it"`
	FirstSeen  time.Time           `json:"firstSeen"`
	LastSeen   time.Time           `json:"lastSeen"`
	Gone       time.Time           `json:"gone,omitzero" doc:"when it was confirmed to be deleted"`
	Points     int                 `json:"points"`
	Newest     time.Time           `json:"newest,omitzero" doc:"when its newest good point was made"`
}

// Point is a restore point.
type Point struct {
	ID          holdfast.PointID     `json:"id"`
	VM          holdfast.ResourceID  `json:"vm"`
	Name        string               `json:"name" doc:"of the machine"`
	Kind        holdfast.PointKind   `json:"kind"`
	State       string               `json:"state" enum:"making,kept,removing,removed"`
	Policy      string               `json:"policy,omitempty" doc:"that made it; not there when a person did"`
	Session     holdfast.RunID       `json:"session,omitempty"`
	Slot        time.Time            `json:"slot,omitzero"`
	Created     time.Time            `json:"created"`
	Flags       holdfast.Flags       `json:"flags"`
	Repository  string               `json:"repository,omitempty"`
	Region      string               `json:"region,omitempty"`
	Good        bool                 `json:"good" doc:"false when a check found it damaged"`
	Manual      bool                 `json:"manual,omitempty"`
	Base        bool                 `json:"base,omitempty" doc:"the next backup is compared with this snapshot"`
	Consistency holdfast.Consistency `json:"consistency,omitempty"`
	LockedUntil time.Time            `json:"lockedUntil,omitzero" doc:"until then nobody can remove it"`
	CopiedFrom  holdfast.PointID     `json:"copiedFrom,omitempty" doc:"of an archive"`
	Bytes       holdfast.Bytes       `json:"bytes"`
	ProofLevel  int                  `json:"proofLevel" doc:"0 written, 1 stored bytes hashed, 2 complete and authentic, 3 restored and compared, 4 booted, 5 probed"`
	Proved      time.Time            `json:"proved,omitzero"`
	Why         string               `json:"why,omitempty" doc:"why it stays, or why it goes"`
	Until       time.Time            `json:"until,omitzero" doc:"when it goes by its age, as far as that can be said"`
	Removed     time.Time            `json:"removed,omitzero"`
}

// RemovePoints names points.
type RemovePoints struct {
	Points []holdfast.PointID `json:"points" minItems:"1" maxItems:"1000"`
	DryRun bool               `json:"dryRun,omitempty" doc:"say what would happen, and do nothing"`
}

// Removal is what is removed.
type Removal struct {
	Points  []Point           `json:"points"`
	DryRun  bool              `json:"dryRun,omitempty"`
	Session *holdfast.Session `json:"session,omitempty" doc:"that removes them; not there of a dry run"`
}

// Repository is a repository as it is declared, and as it was found.
type Repository struct {
	Name        string    `json:"name"`
	Description string    `json:"description,omitempty"`
	URL         string    `json:"url"`
	Region      string    `json:"region,omitempty"`
	Tier        string    `json:"tier,omitempty"`
	Redundancy  string    `json:"redundancy,omitempty"`
	Encrypted   bool      `json:"encrypted"`
	Immutable   bool      `json:"immutable"`
	Backups     int       `json:"backups" doc:"points in it that are written down"`
	Archives    int       `json:"archives"`
	StoredBytes int64     `json:"storedBytes" doc:"that these points added when they were made"`
	UsedBy      []string  `json:"usedBy" doc:"policies and templates that name it"`
	Checked     time.Time `json:"checked,omitzero" doc:"when the following was looked at; of one repository alone"`
	Problem     string    `json:"problem,omitempty" doc:"why it cannot be opened"`
	ID          string    `json:"id,omitempty"`
	Owner       string    `json:"owner,omitempty" doc:"installation that writes to it"`
}

// AddRepository declares a repository, and opens or makes it.
type AddRepository struct {
	Document File   `json:"document" doc:"one document of kind Repository"`
	Password string `json:"password,omitempty" doc:"that opens it; sealed and never given out"`
}

// TestNotification says to whom a trial goes.
type TestNotification struct {
	To string `json:"to,omitempty" format:"email" doc:"an address; the installation's recipients and webhooks when there is none"`
}

// Delivery is what became of one message.
type Delivery struct {
	To      string `json:"to" doc:"an address, or the name of a webhook"`
	OK      bool   `json:"ok"`
	Problem string `json:"problem,omitempty"`
	Hint    string `json:"hint,omitempty"`
}

// Delivered is what became of a trial.
type Delivered struct {
	Deliveries []Delivery `json:"deliveries"`
}

// Event is a line of the record of what happened. Names are those of a preview.
type Event struct {
	Number int64               `json:"number" doc:"rises with time"`
	At     time.Time           `json:"at"`
	VM     holdfast.ResourceID `json:"vm,omitempty"`
	Policy string              `json:"policy,omitempty"`
	Name   string              `json:"event"`
	Slot   time.Time           `json:"slot,omitzero"`
	Point  holdfast.PointID    `json:"point,omitempty"`
	Flags  holdfast.Flags      `json:"flags,omitempty"`
	Reason string              `json:"reason,omitempty"`
}
