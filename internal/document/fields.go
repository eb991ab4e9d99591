package document

import "github.com/holdfast-backup/holdfast"

// The kinds of document.
const (
	KindSchedulePolicy  = "SchedulePolicy"
	KindSLAPolicy       = "SLAPolicy"
	KindSLATemplate     = "SLATemplate"
	KindStorageTemplate = "StorageTemplate"
	KindRepository      = "Repository"
	KindInstallation    = "Installation"
)

// The structs below are the documents as they are written. What they are called there is the vocabulary of the API and the
// web page as well. A pointer stands where leaving a field out is not the same as its zero value.

type header struct {
	Kind        string `yaml:"kind,required"`
	Name        string `yaml:"name,required"`
	Description string `yaml:"description"`
}

type schedulePolicyFields struct {
	header
	policyFields
	Zone        string             `yaml:"zone"`
	Daily       *dailyFields       `yaml:"daily"`
	Weekly      *weeklyFields      `yaml:"weekly"`
	Monthly     *monthlyFields     `yaml:"monthly"`
	Yearly      *yearlyFields      `yaml:"yearly"`
	HealthCheck *healthCheckFields `yaml:"healthCheck"`
	Notify      *runNotifyFields   `yaml:"notify"`
}

type slaPolicyFields struct {
	header
	policyFields
	SLATemplate     string           `yaml:"slaTemplate,required"`
	StorageTemplate string           `yaml:"storageTemplate"`
	Notify          *slaNotifyFields `yaml:"notify"`
}

type policyFields struct {
	Enabled         *bool                 `yaml:"enabled"`
	Priority        *int                  `yaml:"priority"`
	ServiceAccount  string                `yaml:"serviceAccount"`
	Sources         sourcesFields         `yaml:"sources,required"`
	Guest           *guestFields          `yaml:"guest"`
	SnapshotOptions *snapshotOptionFields `yaml:"snapshotOptions"`
	Retries         *int                  `yaml:"retries"`
}

type sourcesFields struct {
	Regions      []string          `yaml:"regions,required"`
	All          bool              `yaml:"all"`
	Include      []selectorFields  `yaml:"include"`
	Conditions   []conditionFields `yaml:"conditions"`
	Exclude      []exclusionFields `yaml:"exclude"`
	OnboardByTag bool              `yaml:"onboardByTag"`
}

type selectorFields struct {
	Subscription  string     `yaml:"subscription"`
	ResourceGroup string     `yaml:"resourceGroup"`
	Tag           *tagFields `yaml:"tag"`
	VM            string     `yaml:"vm"`
}

type exclusionFields struct {
	Tag *tagFields `yaml:"tag"`
	VM  string     `yaml:"vm"`
}

type conditionFields struct {
	Name          string      `yaml:"name,required"`
	Subscription  string      `yaml:"subscription"`
	ResourceGroup string      `yaml:"resourceGroup"`
	Tags          []tagFields `yaml:"tags,required"`
}

type tagFields struct {
	Name  string `yaml:"name,required"`
	Value string `yaml:"value"`
}

type guestFields struct {
	ApplicationConsistent bool           `yaml:"applicationConsistent"`
	Windows               *scriptsFields `yaml:"windows"`
	Linux                 *scriptsFields `yaml:"linux"`
	BackupsOnly           bool           `yaml:"backupsOnly"`
	IgnoreMissingScripts  bool           `yaml:"ignoreMissingScripts"`
	IgnoreExitCodes       bool           `yaml:"ignoreExitCodes"`
}

type scriptsFields struct {
	Before *scriptFields `yaml:"before"`
	After  *scriptFields `yaml:"after"`
}

type scriptFields struct {
	Path      string `yaml:"path,required"`
	Arguments string `yaml:"arguments"`
}

type snapshotOptionFields struct {
	CopyTags        bool              `yaml:"copyTags"`
	Tags            []tagFields       `yaml:"tags"`
	ResourceGroups  map[string]string `yaml:"resourceGroups"`
	CrashConsistent bool              `yaml:"crashConsistent"`
}

type dailyFields struct {
	Days      []string             `yaml:"days"`
	Snapshots *dailySnapshotFields `yaml:"snapshots"`
	Backups   *dailyBackupFields   `yaml:"backups"`
}

type dailySnapshotFields struct {
	Hours   []int `yaml:"hours"`
	PerHour *int  `yaml:"perHour"`
	Keep    int   `yaml:"keep,required"`
}

type dailyBackupFields struct {
	Hours      []int           `yaml:"hours,required"`
	Keep       holdfast.Period `yaml:"keep,required"`
	Repository string          `yaml:"repository,required"`
}

type weeklyFields struct {
	At        holdfast.TimeOfDay    `yaml:"at,required"`
	Snapshots *weeklySnapshotFields `yaml:"snapshots"`
	Backups   *weeklyBackupFields   `yaml:"backups"`
}

type weeklySnapshotFields struct {
	Days []string `yaml:"days"`
	Keep int      `yaml:"keep,required"`
}

type weeklyBackupFields struct {
	Days       []string        `yaml:"days,required"`
	Keep       holdfast.Period `yaml:"keep,required"`
	Repository string          `yaml:"repository,required"`
}

type monthlyFields struct {
	At        holdfast.TimeOfDay     `yaml:"at,required"`
	On        holdfast.MonthDay      `yaml:"on,required"`
	Snapshots *monthlySnapshotFields `yaml:"snapshots"`
	Backups   *monthlyBackupFields   `yaml:"backups"`
	Archives  *monthlyBackupFields   `yaml:"archives"`
}

type monthlySnapshotFields struct {
	Months []string `yaml:"months"`
	Keep   int      `yaml:"keep,required"`
}

type monthlyBackupFields struct {
	Months     []string        `yaml:"months,required"`
	Keep       holdfast.Period `yaml:"keep,required"`
	Repository string          `yaml:"repository,required"`
}

type yearlyFields struct {
	At       holdfast.TimeOfDay  `yaml:"at,required"`
	On       holdfast.MonthDay   `yaml:"on,required"`
	Month    string              `yaml:"month,required"`
	Backups  *yearlyBackupFields `yaml:"backups"`
	Archives *yearlyBackupFields `yaml:"archives"`
}

type yearlyBackupFields struct {
	Keep       holdfast.Period `yaml:"keep,required"`
	Repository string          `yaml:"repository,required"`
}

type healthCheckFields struct {
	Days   []string          `yaml:"days"`
	On     holdfast.MonthDay `yaml:"on"`
	Months []string          `yaml:"months"`
}

type runNotifyFields struct {
	Enabled    *bool    `yaml:"enabled"`
	Recipients []string `yaml:"recipients"`
	OnSuccess  *bool    `yaml:"onSuccess"`
	OnWarning  *bool    `yaml:"onWarning"`
	OnFailure  *bool    `yaml:"onFailure"`
}

type slaNotifyFields struct {
	Enabled    *bool               `yaml:"enabled"`
	Recipients []string            `yaml:"recipients"`
	OnlyMissed bool                `yaml:"onlyMissed"`
	At         *holdfast.TimeOfDay `yaml:"at"`
}

type slaTemplateFields struct {
	header
	Target        *float64            `yaml:"target"`
	Grace         *holdfast.Period    `yaml:"grace"`
	Proof         *proofFields        `yaml:"proof"`
	ChangedRanges *bool               `yaml:"changedRanges"`
	Snapshots     *slaRowsFields      `yaml:"snapshots"`
	Backups       *slaRowsFields      `yaml:"backups"`
	Archives      *slaMonthlyFields   `yaml:"archives"`
	HealthCheck   *monthlyCheckFields `yaml:"healthCheck"`
}

type monthlyCheckFields struct {
	On     holdfast.MonthDay `yaml:"on,required"`
	Months []string          `yaml:"months"`
}

type proofFields struct {
	Level  *int             `yaml:"level"`
	Within *holdfast.Period `yaml:"within"`
}

type slaRowsFields struct {
	Window  *windowFields     `yaml:"window"`
	Daily   *slaDailyFields   `yaml:"daily"`
	Weekly  *slaWeeklyFields  `yaml:"weekly"`
	Monthly *slaMonthlyFields `yaml:"monthly"`
}

type slaDailyFields struct {
	Every holdfast.Period `yaml:"every,required"`
	Keep  holdfast.Period `yaml:"keep,required"`
}

type slaWeeklyFields struct {
	Days []string        `yaml:"days,required"`
	Keep holdfast.Period `yaml:"keep,required"`
}

type slaMonthlyFields struct {
	On     holdfast.MonthDay `yaml:"on,required"`
	Months []string          `yaml:"months,required"`
	Keep   holdfast.Period   `yaml:"keep,required"`
}

type storageTemplateFields struct {
	header
	Backups  *placementFields `yaml:"backups"`
	Archives *placementFields `yaml:"archives"`
}

type placementFields struct {
	Default string            `yaml:"default"`
	Regions map[string]string `yaml:"regions"`
}

type repositoryFields struct {
	header
	URL          string        `yaml:"url,required"`
	Region       string        `yaml:"region"`
	Tier         *string       `yaml:"tier"`
	Redundancy   string        `yaml:"redundancy"`
	Encrypted    *bool         `yaml:"encrypted"`
	Immutable    bool          `yaml:"immutable"`
	Concurrency  *int          `yaml:"concurrency"`
	PasswordFrom *secretFields `yaml:"passwordFrom"`
	VaultKey     string        `yaml:"vaultKey"`
}

type secretFields struct {
	File        string `yaml:"file"`
	Environment string `yaml:"environment"`
	VaultSecret string `yaml:"vaultSecret"`
}

type installationFields struct {
	Kind            string                 `yaml:"kind,required"`
	Zone            string                 `yaml:"zone"`
	RetentionAt     *holdfast.TimeOfDay    `yaml:"retentionAt"`
	GlobalRetention *globalRetentionFields `yaml:"globalRetention"`
	SessionRecords  *sessionRecordFields   `yaml:"sessionRecords"`
	Mail            *mailFields            `yaml:"mail"`
	Webhooks        []webhookFields        `yaml:"webhooks"`
}

type webhookFields struct {
	URL        string        `yaml:"url,required"`
	SecretFrom *secretFields `yaml:"secretFrom,required"`
	Events     []string      `yaml:"events"`
}

type globalRetentionFields struct {
	Age                holdfast.Period `yaml:"age,required"`
	AllSnapshots       bool            `yaml:"allSnapshots"`
	UnprotectedBackups bool            `yaml:"unprotectedBackups"`
}

type sessionRecordFields struct {
	Keep holdfast.Period `yaml:"keep,required"`
}

type mailFields struct {
	Enabled        *bool               `yaml:"enabled"`
	Server         string              `yaml:"server,required"`
	Port           *int                `yaml:"port"`
	TLS            *string             `yaml:"tls"`
	TimeoutSeconds *int                `yaml:"timeoutSeconds"`
	User           string              `yaml:"user"`
	PasswordFrom   *secretFields       `yaml:"passwordFrom"`
	From           string              `yaml:"from,required"`
	Recipients     []string            `yaml:"recipients"`
	Subject        *string             `yaml:"subject"`
	SLASubject     *string             `yaml:"slaSubject"`
	OnSuccess      *bool               `yaml:"onSuccess"`
	OnWarning      *bool               `yaml:"onWarning"`
	OnFailure      *bool               `yaml:"onFailure"`
	DailyReportAt  *holdfast.TimeOfDay `yaml:"dailyReportAt"`
}
