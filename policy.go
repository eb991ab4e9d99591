package holdfast

import "time"

// PolicyKind says what drives a policy.
type PolicyKind string

// The kinds of policy. For one machine every policy of kind SLA goes before every one of kind schedule.
const (
	PolicySchedule PolicyKind = "schedule" // exact times; judged by what each run achieved
	PolicySLA      PolicyKind = "sla"      // a frequency inside a window; judged by a target as well
)

// PolicyCommon is what both kinds of policy have.
type PolicyCommon struct {
	Name           string // 1 to 255 characters; unique among all policies
	Description    string
	Enabled        bool
	Priority       int    // the order within the kind: 1 is taken first
	ServiceAccount string // by whose permissions the policy acts; "" is the one of the installation
	Sources        Sources
	Guest          GuestProcessing
	Snapshots      SnapshotOptions
	Retries        int // how often the machines that failed are tried again after a scheduled run, RetryAfter apart; 0 is never
	Notify         PolicyNotification
}

// MaxRetries is how often at the most a policy may have its machines tried again: as often as RetryAfter goes into a day.
const MaxRetries = 144

// MaxSnapshotTags is how many tags of its own a policy may give its snapshots.
const MaxSnapshotTags = 5

// RetryAfter is how long after a failed attempt the next one begins.
const RetryAfter = 600 * time.Second

// SchedulePolicy protects machines at exact times.
type SchedulePolicy struct {
	PolicyCommon
	Zone        string // IANA name; "" is the zone of the installation
	Rows        []ScheduleRow
	HealthCheck *HealthCheck // nil: none
}

// ScheduleRow says of one frequency and one kind of point when it is made, where it goes and how long it bears the flag.
// A policy has at most one row for each flag and kind. Snapshots are kept by number, backups and archives by age.
type ScheduleRow struct {
	Flag       Flag
	Kind       PointKind
	When       Calendar
	KeepCount  int    // of snapshots
	KeepFor    Period // of backups and archives
	Repository string // of backups and archives: the name of one
}

// SLAPolicy protects machines as a template asks, and is judged by it.
type SLAPolicy struct {
	PolicyCommon
	Template string // the SLA template: when, how long, which target
	Storage  string // the storage template: where to; "" when the SLA template makes snapshots alone
}

// SLATemplate says how often points are made, in which windows, how long they are kept, and what share of them must exist.
// Windows are on the wall clock of each machine's Azure region.
type SLATemplate struct {
	Name           string
	Description    string
	Rows           []SLARow
	SnapshotWindow Window
	BackupWindow   Window // archives use it as well
	ChangedRanges  bool   // read what changed since the last backup, which keeps one snapshot of each disk
	TargetPercent  float64
	Grace          time.Duration // after a window closes, for what its last slots ask
	ProofLevel     int           // what a point must have been proven to for the ratio of proven points
	ProofAge       Period        // how old that proof may be, in days
	HealthCheck    *HealthCheck  // nil: none
}

// SLARow says of one frequency and one kind of point what is asked for. A template has at most one row for each.
// Snapshots: daily, weekly, monthly. Backups: the same. Archives: monthly alone.
type SLARow struct {
	Flag    Flag
	Kind    PointKind
	Every   Period   // of daily rows: minutes or hours between slots, from the opening of the window
	Days    Weekdays // of weekly rows
	Months  MonthSet // of monthly rows and archives
	On      MonthDay // of monthly rows and archives
	KeepFor Period
}

// StorageTemplate says where points go. Snapshots stay in the region of their machine.
type StorageTemplate struct {
	Name        string
	Description string
	Backups     Placement
	Archives    Placement // the zero value when nothing is archived
}

// Placement names repositories by the region of the machines.
type Placement struct {
	Default string            // for regions that Regions does not name; "" when there is no place for them
	Regions map[string]string // from region to the name of a repository
}

// In returns the name of the repository for a region; "" when there is none.
func (p Placement) In(region string) string {
	if name, ok := p.Regions[region]; ok {
		return name
	}
	return p.Default
}

// Tier is an access tier of Blob storage.
type Tier string

// The tiers.
const (
	TierHot      Tier = "hot"
	TierCool     Tier = "cool"
	TierCold     Tier = "cold"
	TierArchive  Tier = "archive"
	TierInferred Tier = "inferred" // whatever the storage account's own setting is
)

// Redundancy says how often and where storage keeps what it is given.
type Redundancy string

// The redundancies that storage accounts have. What lies in two regions may be readable in the second one as well (RA-GRS,
// RA-GZRS); nothing is read there, so those count as GRS and GZRS.
const (
	RedundancyLRS  Redundancy = "LRS"  // three copies in one place
	RedundancyZRS  Redundancy = "ZRS"  // a copy in each of three zones
	RedundancyGRS  Redundancy = "GRS"  // LRS, and once more in another region
	RedundancyGZRS Redundancy = "GZRS" // ZRS, and once more in another region
)

// RepositorySpec is a repository as a document declares it.
type RepositorySpec struct {
	Name        string
	Description string
	URL         string // a folder, file:///FOLDER or azblob://ACCOUNT/CONTAINER/FOLDER
	Region      string // where its storage is; "" for a folder
	Tier        Tier
	Redundancy  Redundancy // of its storage account; "" when the document does not say
	Encrypted   bool
	Immutable   bool // objects are locked until the retention of what needs them, which the storage must be able to do
	Concurrency int  // machines whose backups are written at once; 0 is no limit of its own
	Password    SecretSource
	KeyID       string // the vault key that opens it: https://VAULT/keys/NAME; "" when a password does
}

// SecretSource says where a secret is found. It never is the secret itself. At most one field is set.
type SecretSource struct {
	File        string
	Environment string // the name of a variable
	VaultSecret string // https://VAULT/secrets/NAME
}

// Sources say which machines a policy asks for: those in its regions that are included and not excluded.
type Sources struct {
	Regions    []string // Azure's names in lower case: westeurope. Nothing outside of them is protected, not even by tag
	All        bool     // every machine that the service account sees there
	Include    []Selector
	Conditions []Condition
	Exclude    []Selector // machines and tags alone
	// OnboardByTag lets the tag OnboardingTag on a machine, with the policy's name as its value, include it.
	OnboardByTag bool
}

// OnboardingTag is the tag with which owners of machines ask for a policy, where the policy allows it.
const OnboardingTag = "holdfast-policy"

// Selector picks machines. Exactly one field is set.
type Selector struct {
	Subscription  string     // an id
	ResourceGroup ResourceID // /subscriptions/S/resourceGroups/G
	Tag           *Tag
	VM            ResourceID
}

// Condition picks machines that match all of its parts: several tags, or one subscription or resource group and tags.
type Condition struct {
	Name          string // at most 64 characters
	Subscription  string
	ResourceGroup ResourceID
	Tags          []Tag
}

// Tag is an Azure tag. Names are compared without regard to case, values exactly, as Azure does.
type Tag struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// SnapshotOptions say what snapshots are like.
type SnapshotOptions struct {
	CopyTags bool  // of the disks they are made from
	Tags     []Tag // at most five
	// ResourceGroups give snapshots of a subscription a group of their own; by subscription id. Others go beside the machine.
	ResourceGroups map[string]string
	// CrashConsistent asks for one crash-consistent set of all disks where the platform can make one.
	CrashConsistent bool
}

// GuestProcessing says what happens in a running guest around a snapshot.
type GuestProcessing struct {
	ApplicationConsistent bool         // applications are asked to flush, through a VM restore point
	Windows               GuestScripts // the zero value: none
	Linux                 GuestScripts
	BackupsOnly           bool // scripts run only when the snapshot feeds a backup
	IgnoreMissingScripts  bool
	IgnoreExitCodes       bool
}

// GuestScripts are programs in a guest that run before and after its snapshot.
type GuestScripts struct {
	Before Script
	After  Script
}

// Script is a program at the same path in every guest. Arguments may hold %instanceName%, %policyId% and %policyName%.
type Script struct {
	Path      string
	Arguments string
}

// HealthCheck says on which days the points are checked, after the day's last session.
type HealthCheck struct {
	When Calendar // its times are not used
}

// PolicyNotification says who hears of a policy's sessions.
type PolicyNotification struct {
	Enabled    bool // false: nobody, whatever the installation's settings say
	Recipients []string
	OnSuccess  bool // schedule-based policies
	OnWarning  bool
	OnFailure  bool
	OnlyMissed bool // SLA-based policies: report missed targets and removed machines alone
	// At is when the SLA report goes out, on the day after the window closed in all regions; nil: as soon as it has.
	At *TimeOfDay
}

// Installation holds the settings that all policies share.
type Installation struct {
	Zone             string    // IANA name in which schedules are evaluated where a policy names none; UTC by default
	RetentionAt      TimeOfDay // when the daily pass of retention runs, in Zone; 00:15 by default
	ObsoleteAge      Period    // snapshots of machines that no policy protects go at this age; zero: never
	SnapshotAge      Period    // all policy-made snapshots go at this age at the latest; zero: never
	UnprotectedAge   Period    // backups of machines that no policy protects go at this age; zero: by the retention stored with them
	SessionRecordAge Period    // zero: kept for ever
	Mail             *Mail     // nil: no mail is set up
	Webhooks         []Webhook
}

// Mail says how mail is sent, and what the installation's own recipients hear of. A policy's own notification decides
// first; an address that stands in both gets one copy.
type Mail struct {
	Enabled       bool // false: nothing is sent, whatever policies say
	Server        string
	Port          int
	TLS           MailTLS
	Timeout       time.Duration
	User          string // "" where the server asks for none
	Password      SecretSource
	From          string
	Recipients    []string
	Subject       string // of a session's mail; may hold %JobResult%, %JobName%, %ObjectCount% and %Issues%
	SLASubject    string // of an SLA report; may hold %JobName%, %ObjectCount%, %SLAType%, %SLAPeriod% and %SLAStatus%
	OnSuccess     bool   // of sessions of schedule-based policies
	OnWarning     bool
	OnFailure     bool
	DailyReportAt *TimeOfDay // in the installation's zone; nil: no daily report
}

// MailTLS says how the way to the mail server is kept private.
type MailTLS string

// The ways.
const (
	MailTLSNone  MailTLS = "none"     // in the clear
	MailTLSStart MailTLS = "startTLS" // begun in the clear, and refused when the server cannot go on with TLS
	MailTLSFirst MailTLS = "implicit" // from the first byte on
)

// Documents are everything that people wrote down, as a whole, checked against one another.
type Documents struct {
	Installation     Installation
	SchedulePolicies []SchedulePolicy // by priority
	SLAPolicies      []SLAPolicy      // by priority
	SLATemplates     []SLATemplate
	StorageTemplates []StorageTemplate
	Repositories     []RepositorySpec
}

// SLATemplate returns the SLA template of a name.
func (d Documents) SLATemplate(name string) (SLATemplate, bool) {
	for _, t := range d.SLATemplates {
		if t.Name == name {
			return t, true
		}
	}
	return SLATemplate{}, false
}

// StorageTemplate returns the storage template of a name.
func (d Documents) StorageTemplate(name string) (StorageTemplate, bool) {
	for _, t := range d.StorageTemplates {
		if t.Name == name {
			return t, true
		}
	}
	return StorageTemplate{}, false
}

// Repository returns the repository of a name.
func (d Documents) Repository(name string) (RepositorySpec, bool) {
	for _, r := range d.Repositories {
		if r.Name == name {
			return r, true
		}
	}
	return RepositorySpec{}, false
}
