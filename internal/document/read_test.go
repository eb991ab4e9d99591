package document_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/document"
)

// whole is a set with a document of each kind.
const whole = `kind: Repository
name: hot
url: azblob://shopvault/backups/hot
region: westeurope
tier: hot
passwordFrom: {environment: HOT_PASSWORD}
---
kind: Repository
name: vault
url: azblob://shopvault/backups/archive
region: westeurope
tier: archive
vaultKey: https://shop.vault.azure.net/keys/archive
---
kind: SchedulePolicy
name: shop
sources: {regions: [westeurope], all: true}
daily:
  days: [weekdays]
  snapshots: {hours: [9, 11], perHour: 1, keep: 4}
  backups: {hours: [7], keep: 14 days, repository: hot}
monthly:
  at: "07:00"
  on: first monday
  archives: {months: [every], keep: 12 months, repository: vault}
---
kind: SLATemplate
name: gold
snapshots:
  window: 22:00-06:00
  daily: {every: 30 minutes, keep: 2 days}
backups:
  daily: {every: 8 hours, keep: 30 days}
archives: {on: last day, months: [january, july], keep: 12 months}
---
kind: StorageTemplate
name: west
backups: {default: hot, regions: {northeurope: hot}}
archives: {default: vault}
---
kind: SLAPolicy
name: gold shop
slaTemplate: gold
storageTemplate: west
sources:
  regions: [westeurope]
  include: [{tag: {name: env, value: prod}}]
---
kind: Installation
zone: Europe/Brussels
`

func read(text string) (holdfast.Documents, []document.Note, error) {
	return document.Read(document.File{Name: "set.yaml", Data: []byte(text)})
}

// TestRead flattens the pages of a policy to rows, fills in what was left out, and tells what it decided.
func TestRead(t *testing.T) {
	d, notes, err := read(whole)
	if err != nil {
		t.Fatal(err)
	}
	rows := d.SchedulePolicies[0].Rows
	if len(rows) != 3 || rows[0].KeepCount != 4 || len(rows[0].When.Times) != 3 || rows[0].When.Times[0].String() != "07:00" || rows[1].Repository != "hot" ||
		rows[2].Kind != holdfast.PointArchive || rows[2].When.On.String() != "first monday" || rows[2].When.Months != holdfast.EveryMonth {
		t.Errorf("rows %+v", rows)
	}
	if d.SLATemplates[0].TargetPercent != 97 || d.SLATemplates[0].SnapshotWindow.String() != "22:00-06:00" || d.Installation.RetentionAt.String() != "00:15" {
		t.Errorf("%+v, %+v", d.SLATemplates[0], d.Installation)
	}
	if len(notes) != 1 || !strings.Contains(notes[0].Text, "07:00 was added") || notes[0].Line != 20 {
		t.Errorf("notes %+v", notes)
	}
}

// TestRead_TellsEveryMistake of a set, in the order of lines, each with its place.
func TestRead_TellsEveryMistake(t *testing.T) {
	_, _, err := read("kind: Repository\nname: hot\nurl: x\npassword: secret\n---\nkind: SLATemplate\nname: a.b\ntarget: 101\nsnapshots:\n  daily: {every: 7 minutes, keep: 1 year}\n")
	var mistakes document.Mistakes
	if !errors.As(err, &mistakes) || !holdfast.IsKind(err, holdfast.KindInvalid) {
		t.Fatalf("got %v", err)
	}
	var fields []string
	for _, m := range mistakes {
		fields = append(fields, m.Field)
	}
	if got := strings.Join(fields, " "); got != "password name target snapshots.daily.every snapshots.daily.keep" {
		t.Errorf("%s\n%v", got, err)
	}
}
