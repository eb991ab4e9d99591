package main

import (
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// manifest is what this program needs of a manifest (§9).
type manifest struct {
	Format      int        `json:"format"`
	Point       string     `json:"point"`
	VM          string     `json:"vm"`
	Name        string     `json:"name"`
	Time        time.Time  `json:"time"`
	Kind        string     `json:"kind"`
	Consistency string     `json:"consistency"`
	Disks       []disk     `json:"disks"`
	Documents   []document `json:"documents"`
}

// disk is one disk of a restore point.
type disk struct {
	LUN       string    `json:"lun"`
	Name      string    `json:"name"`
	SizeBytes int64     `json:"sizeBytes"`
	Root      string    `json:"root"`
	Top       *topPlace `json:"top"`
}

// topPlace is the id of a disk's top node, and where it lay when the point was written. Both are empty for a disk of zeros.
type topPlace struct {
	ID     string `json:"id"`
	Pack   string `json:"pack"`
	Offset int64  `json:"offset"`
	Stored int64  `json:"stored"`
}

// document is an answer of the Azure API, as it came.
type document struct {
	ID         string          `json:"id"`
	APIVersion string          `json:"apiVersion"`
	Body       json.RawMessage `json:"body"`
}

// manifestOf reads and checks the manifest of a point.
func (r *repository) manifestOf(p *point) (*manifest, error) {
	text, err := r.manifestText(p.manifest)
	if err != nil {
		return nil, err
	}
	m, err := parseManifest(text)
	if err != nil {
		return nil, err
	}
	if m.Point != p.id {
		return nil, damaged("%s is the manifest of the point %s, not of %s", p.manifest, m.Point, p.id)
	}
	return m, nil
}

// summaryOf reads what the publish entry says about a point: a manifest without places and documents (§6.3).
func (r *repository) summaryOf(p *point) (*manifest, error) {
	text, err := p.summary.open(r.keys, "publish", p.id)
	if err != nil {
		return nil, err
	}
	var m manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return nil, damaged("the summary of %s is no JSON: %v", p.id, err)
	}
	return &m, nil
}

func parseManifest(text []byte) (*manifest, error) {
	var version struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(text, &version); err != nil {
		return nil, damaged("a manifest is no JSON: %v", err)
	}
	if version.Format != 1 { // a later format may have other types
		return nil, newer("a manifest has format %d", version.Format)
	}
	var m manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return nil, damaged("a manifest is not what format 1 says: %v", err)
	}
	return &m, nil
}

// top returns the top node's id and place; an id of zeros when the disk holds zeros alone.
func (d *disk) top() (id [32]byte, places []place, err error) {
	if d.Top == nil || strings.Trim(d.Top.ID, "0") == "" {
		return id, nil, nil
	}
	if id, err = parseHash(d.Top.ID); err != nil {
		return id, nil, err
	}
	if validName(d.Top.Pack, "tree") {
		pack, _ := parseHash(d.Top.Pack[len("tree/00/"):]) // the name's form was checked
		places = append(places, place{pack: pack, offset: d.Top.Offset, stored: d.Top.Stored})
	}
	return id, places, nil
}

// parseHash reads 32 bytes in hex.
func parseHash(text string) (hash [32]byte, err error) {
	content, err := hex.DecodeString(text)
	if err != nil || len(content) != len(hash) {
		return hash, damaged("%q is not the hex of 32 bytes", text)
	}
	return [32]byte(content), nil
}

// point finds a visible point by its id, or by the beginning of it.
func (r *repository) point(id string) (*point, error) {
	if id == "" {
		return nil, failed(kindInvalid, "no restore point was named").about("point").hinting("rescue list shows them")
	}
	var found []*point
	for _, p := range r.state.points {
		if p.id == id {
			return p, nil
		}
		if strings.HasPrefix(p.id, id) {
			found = append(found, p)
		}
	}
	switch len(found) {
	case 0:
		return nil, failed(kindNotFound, "there is no restore point %s", id).about("point").hinting("rescue list shows them")
	case 1:
		return found[0], nil
	default:
		return nil, failed(kindInvalid, "%d restore points begin with %s", len(found), id).about("point").hinting("give more of the id")
	}
}

// disk finds a disk of a point by its place in the VM: os, or the number of a data disk.
func (m *manifest) disk(lun string) (*disk, error) {
	at := slices.IndexFunc(m.Disks, func(d disk) bool { return d.LUN == lun })
	if at < 0 {
		var known []string
		for _, d := range m.Disks {
			known = append(known, d.LUN)
		}
		kind := kindNotFound
		if lun == "" {
			kind = kindInvalid
		}
		return nil, failed(kind, "the restore point has no disk %q", lun).about("disk").hinting("it has: %s", strings.Join(known, ", "))
	}
	return &m.Disks[at], nil
}
