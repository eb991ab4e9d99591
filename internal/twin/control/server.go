// Package control is the twin's back door: what a test, a demonstration or a person may do to the simulated world that no
// API of Azure offers. It writes into disks as a guest would, reads them out, lists every resource that exists, sets
// faults and the platform's limits, and tells which calls were made.
//
// Server is the HTTP side, served under Prefix on the twin's TLS listener; Client is the Go side, which finds a running
// twin by its folder. Every request carries the token that is kept in the folder, readable by its owner alone. Errors
// cross the wire as kind, message, hint and field, so that Client returns what the Server's parts returned. The back door
// must never be counted, throttled or broken by the twin's own fault rules.
package control

import (
	"crypto/subtle"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/twin/fault"
	"github.com/holdfast-backup/holdfast/internal/twin/keyvault"
	"github.com/holdfast-backup/holdfast/internal/twin/vdisk"
)

// Prefix is where the control API lives.
const Prefix = "/_twin/"

const (
	chunkBytes      = 1 << 20 // of a guest's write and of a frame
	requestBytesMax = 4 << 20 // of everything but disk content
)

// Volumes are the bytes behind disks; *vdisk.Store has them.
type Volumes interface {
	Stat(id vdisk.ID) (vdisk.Volume, error)
	ReadAt(id vdisk.ID, p []byte, off int64) (int, error)
	WriteAt(id vdisk.ID, p []byte, off int64) (int, error)
	Zero(id vdisk.ID, off, length int64) error
	Allocated(id vdisk.ID, window holdfast.Extent) iter.Seq2[holdfast.Extent, error]
}

// Config says what a Server reaches; every field is required.
type Config struct {
	Token     string
	Clock     clock.Clock
	Volumes   Volumes
	Faults    *fault.Engine
	Volume    func(resourceID string) (vdisk.ID, error)
	Resize    func(diskID string, sizeGiB int64) error
	Delete    func(resourceID string) error
	Resources func() ([]Resource, error)
	Apply     func(Settings) error
	Vaults    Vaults
	Guests    Guests
}

// Guests are what runs in the machines; *guest.Service has them.
type Guests interface {
	// Write runs write as the guest that a disk belongs to, unless its filesystem is frozen.
	Write(disk string, write func() error) error
	// Frozen tells which mount points of a machine are frozen at a moment.
	Frozen(machine string, at time.Time) ([]string, error)
}

// Vaults are the key vaults; *keyvault.Service has them.
type Vaults interface {
	Apply(vault, key string, change keyvault.Change) error
	Permit(vault string, permissions []string) error
}

// Resource is one resource that exists, as `holdfast twin resources` prints it.
type Resource struct {
	ID        string            `json:"id"`
	Type      string            `json:"type"`
	Location  string            `json:"location"`
	SKU       string            `json:"sku"`
	Tags      map[string]string `json:"tags"`
	ActiveSAS int               `json:"activeSas"`
}

// Settings are switches of the platform's manners; nil leaves one as it is. They last until the twin stops.
type Settings struct {
	Limits       *bool  `json:"limits,omitempty"`       // rate limits of ARM and Resource Graph
	SnapshotRate *bool  `json:"snapshotRate,omitempty"` // 7 snapshots of a disk in 5 minutes
	LatenessMs   *int64 `json:"latenessMs,omitempty"`   // lists leave out what is younger
	CopyMs       *int64 `json:"copyMs,omitempty"`       // background copy of Ultra and Premium v2 snapshots
	TokenLifeMs  *int64 `json:"tokenLifeMs,omitempty"`  // of tokens given from now on; 0 means an hour
}

// Transcript is a part of the list of calls that the twin has seen.
type Transcript struct {
	Mark  int64        `json:"mark"` // of the last call; give it to the next query
	Calls []fault.Call `json:"calls"`
}

// Server is the HTTP side.
type Server struct {
	config Config
	mux    *http.ServeMux
}

// NewServer returns a server for what config reaches.
func NewServer(config Config) (*Server, error) {
	if config.Token == "" || config.Clock == nil || config.Volumes == nil || config.Faults == nil || config.Volume == nil || config.Resize == nil ||
		config.Delete == nil || config.Resources == nil || config.Apply == nil || config.Vaults == nil || config.Guests == nil {
		return nil, holdfast.Errorf(holdfast.KindInvalid, "the control API lacks a part of the twin")
	}
	s := &Server{config: config, mux: http.NewServeMux()}
	for pattern, serve := range map[string]func(http.ResponseWriter, *http.Request) (any, error){
		"GET resources":         s.listResources,
		"DELETE resource":       s.deleteResource,
		"POST disk/write":       s.writeDisk,
		"GET disk/read":         s.readDisk,
		"POST disk/zero":        s.zeroDisk,
		"POST disk/resize":      s.resizeDisk,
		"GET guest/frozen":      s.frozen,
		"GET faults":            s.getFaults,
		"PUT faults":            s.setFaults,
		"DELETE faults":         s.clearFaults,
		"GET faults/counts":     s.countFaults,
		"GET calls":             s.listCalls,
		"PUT settings":          s.applySettings,
		"POST vault/key":        s.changeKey,
		"PUT vault/permissions": s.permit,
	} {
		method, path, _ := strings.Cut(pattern, " ")
		s.mux.HandleFunc(method+" "+Prefix+path, func(w http.ResponseWriter, r *http.Request) { answer(w, r, serve) })
	}
	return s, nil
}

// Handler serves Prefix.
func (s *Server) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		given, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if subtle.ConstantTimeCompare([]byte(given), []byte(s.config.Token)) != 1 {
			writeError(w, holdfast.Errorf(holdfast.KindRefused, "the control API refuses the token").
				WithHint("give --dir the folder of the twin that is running"))
			return
		}
		s.mux.ServeHTTP(w, r)
	})
}

// handled is returned by endpoints that have written their answer themselves.
type handled struct{}

func answer(w http.ResponseWriter, r *http.Request, serve func(http.ResponseWriter, *http.Request) (any, error)) {
	value, err := serve(w, r)
	if err != nil {
		writeError(w, err)
		return
	}
	if _, done := value.(handled); !done {
		writeJSON(w, http.StatusOK, value)
	}
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value) // best effort: the client may have gone
}

// wireError is an error on its way to the client, in the form that the commands print too.
type wireError struct {
	Error struct {
		Kind    holdfast.Kind `json:"kind"`
		Message string        `json:"message"`
		Hint    string        `json:"hint"`
		Field   string        `json:"field"`
	} `json:"error"`
}

func writeError(w http.ResponseWriter, err error) {
	var body wireError
	body.Error.Kind, body.Error.Message = holdfast.KindOf(err), err.Error()
	var ours *holdfast.Error
	if errors.As(err, &ours) {
		body.Error.Message, body.Error.Hint, body.Error.Field = ours.Error(), ours.Hint, ours.Field
	}
	status := http.StatusInternalServerError
	switch body.Error.Kind {
	case holdfast.KindInvalid:
		status = http.StatusBadRequest
	case holdfast.KindNotFound:
		status = http.StatusNotFound
	case holdfast.KindConflict:
		status = http.StatusConflict
	case holdfast.KindRefused, holdfast.KindWrongKey:
		status = http.StatusForbidden
	case holdfast.KindThrottled, holdfast.KindUnavailable:
		status = http.StatusServiceUnavailable
	case holdfast.KindCorrupt, holdfast.KindCanceled, holdfast.KindInternal:
	}
	writeJSON(w, status, body)
}

type done struct {
	OK bool `json:"ok"`
}

func (s *Server) listResources(http.ResponseWriter, *http.Request) (any, error) {
	return s.config.Resources()
}

func (s *Server) deleteResource(_ http.ResponseWriter, r *http.Request) (any, error) {
	return done{true}, s.config.Delete(r.URL.Query().Get("id"))
}

// disk finds the volume that the query parameter disk names.
func (s *Server) disk(r *http.Request) (vdisk.Volume, error) {
	id, err := s.config.Volume(r.URL.Query().Get("disk"))
	if err != nil {
		return vdisk.Volume{}, err
	}
	return s.config.Volumes.Stat(id)
}

func number(r *http.Request, name string) (int64, error) {
	value, err := strconv.ParseInt(r.URL.Query().Get(name), 10, 64)
	if err != nil || value < 0 {
		return 0, holdfast.Errorf(holdfast.KindInvalid, "%q is no whole number of zero or more", r.URL.Query().Get(name)).WithField(name)
	}
	return value, nil
}

// extent reads offset and length and checks that they lie on the disk.
func extent(r *http.Request, volume vdisk.Volume, length int64) (offset int64, err error) {
	if offset, err = number(r, "offset"); err != nil {
		return 0, err
	}
	if volume.Frozen {
		return 0, holdfast.Errorf(holdfast.KindInvalid, "a snapshot cannot be changed").WithField("disk")
	}
	if length > volume.Size || offset > volume.Size-length {
		return 0, holdfast.Errorf(holdfast.KindInvalid, "%d bytes at offset %d reach beyond the disk's end at %d", length, offset, volume.Size).WithField("offset")
	}
	return offset, nil
}

// writeDisk writes the body at an offset. A body that breaks off leaves what had arrived, as a guest's crash would.
func (s *Server) writeDisk(_ http.ResponseWriter, r *http.Request) (any, error) {
	volume, err := s.disk(r)
	if err != nil {
		return nil, err
	}
	if r.ContentLength < 0 {
		return nil, holdfast.Errorf(holdfast.KindInvalid, "the length of what is to be written must be known beforehand")
	}
	offset, err := extent(r, volume, r.ContentLength)
	if err != nil {
		return nil, err
	}
	buffer := make([]byte, chunkBytes)
	for left := r.ContentLength; left > 0; {
		part := buffer[:min(left, chunkBytes)]
		if _, err := io.ReadFull(r.Body, part); err != nil {
			return nil, holdfast.Wrap(holdfast.KindUnavailable, err, "the content broke off %d bytes before its end", left)
		}
		err := s.config.Guests.Write(r.URL.Query().Get("disk"), func() error {
			_, err := s.config.Volumes.WriteAt(volume.ID, part, offset)
			return err
		})
		if err != nil {
			return nil, err
		}
		offset, left = offset+int64(len(part)), left-int64(len(part))
	}
	return done{true}, nil
}

// frameHeader precedes each piece of a disk that is read out: offset and length, both 8 bytes big-endian. A frame of
// length zero at the disk's end ends the stream; a stream without it broke off.
const frameHeader = 16

const sizeHeader = "X-Twin-Disk-Bytes"

// readDisk streams what is allocated. What a guest writes meanwhile may be in it or not.
func (s *Server) readDisk(w http.ResponseWriter, r *http.Request) (any, error) {
	volume, err := s.disk(r)
	if err != nil {
		return nil, err
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set(sizeHeader, strconv.FormatInt(volume.Size, 10))
	frame := make([]byte, frameHeader+chunkBytes)
	send := func(offset, length int64) error {
		binary.BigEndian.PutUint64(frame, uint64(offset))
		binary.BigEndian.PutUint64(frame[8:], uint64(length))
		if _, err := s.config.Volumes.ReadAt(volume.ID, frame[frameHeader:frameHeader+length], offset); err != nil {
			return err
		}
		_, err := w.Write(frame[:frameHeader+length])
		return err
	}
	begun := false
	for allocated, err := range s.config.Volumes.Allocated(volume.ID, holdfast.Extent{}) {
		for offset := allocated.Offset; err == nil && offset < allocated.End(); offset += chunkBytes {
			begun, err = true, send(offset, min(chunkBytes, allocated.End()-offset))
		}
		if err != nil && begun {
			return handled{}, nil // the client notices that the last frame is missing
		}
		if err != nil {
			return nil, err
		}
	}
	binary.BigEndian.PutUint64(frame, uint64(volume.Size))
	binary.BigEndian.PutUint64(frame[8:], 0)
	_, _ = w.Write(frame[:frameHeader]) // best effort: the client notices if it is missing
	return handled{}, nil
}

func (s *Server) zeroDisk(_ http.ResponseWriter, r *http.Request) (any, error) {
	volume, err := s.disk(r)
	if err != nil {
		return nil, err
	}
	length, err := number(r, "length")
	if err != nil {
		return nil, err
	}
	offset, err := extent(r, volume, length)
	if err != nil {
		return nil, err
	}
	return done{true}, s.config.Guests.Write(r.URL.Query().Get("disk"), func() error { return s.config.Volumes.Zero(volume.ID, offset, length) })
}

// frozen tells which mount points of a machine are frozen, now or in so many milliseconds.
func (s *Server) frozen(_ http.ResponseWriter, r *http.Request) (any, error) {
	ahead := int64(0)
	if r.URL.Query().Has("inMs") {
		var err error
		if ahead, err = number(r, "inMs"); err != nil {
			return nil, err
		}
	}
	return s.config.Guests.Frozen(r.URL.Query().Get("vm"), s.config.Clock.Now().Add(time.Duration(ahead)*time.Millisecond))
}

func (s *Server) resizeDisk(_ http.ResponseWriter, r *http.Request) (any, error) {
	size, err := number(r, "sizeGiB")
	if err != nil {
		return nil, err
	}
	return done{true}, s.config.Resize(r.URL.Query().Get("disk"), size)
}

func (s *Server) getFaults(http.ResponseWriter, *http.Request) (any, error) {
	return s.config.Faults.Plan(), nil
}

// setFaults takes a fault file as YAML or JSON.
func (s *Server) setFaults(_ http.ResponseWriter, r *http.Request) (any, error) {
	body, err := readBody(r)
	if err != nil {
		return nil, err
	}
	plan, err := fault.Parse("faults", body)
	if err != nil {
		return nil, err
	}
	return done{true}, s.config.Faults.Set(plan)
}

func (s *Server) clearFaults(http.ResponseWriter, *http.Request) (any, error) {
	return done{true}, s.config.Faults.Set(fault.Plan{})
}

func (s *Server) countFaults(http.ResponseWriter, *http.Request) (any, error) {
	return s.config.Faults.Counts(), nil
}

func (s *Server) listCalls(_ http.ResponseWriter, r *http.Request) (any, error) {
	since, err := number(r, "since")
	if err != nil {
		return nil, err
	}
	transcript := Transcript{Mark: since, Calls: s.config.Faults.Calls(since)}
	if n := len(transcript.Calls); n > 0 {
		transcript.Mark = transcript.Calls[n-1].Number
	}
	return transcript, nil
}

func (s *Server) applySettings(_ http.ResponseWriter, r *http.Request) (any, error) {
	body, err := readBody(r)
	if err != nil {
		return nil, err
	}
	var settings Settings
	decoder := json.NewDecoder(strings.NewReader(string(body)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&settings); err != nil {
		return nil, holdfast.Wrap(holdfast.KindInvalid, err, "the settings cannot be read")
	}
	for name, value := range map[string]*int64{"latenessMs": settings.LatenessMs, "copyMs": settings.CopyMs, "tokenLifeMs": settings.TokenLifeMs} {
		if value != nil && (*value < 0 || *value > int64(30*24*time.Hour/time.Millisecond)) {
			return nil, holdfast.Errorf(holdfast.KindInvalid, "%d is out of range; accepted: zero to 30 days in milliseconds", *value).WithField(name)
		}
	}
	return done{true}, s.config.Apply(settings)
}

func (s *Server) changeKey(_ http.ResponseWriter, r *http.Request) (any, error) {
	query := r.URL.Query()
	return done{true}, s.config.Vaults.Apply(query.Get("vault"), query.Get("key"), keyvault.Change(query.Get("do")))
}

// permit takes the permissions as a list of JSON.
func (s *Server) permit(_ http.ResponseWriter, r *http.Request) (any, error) {
	body, err := readBody(r)
	if err != nil {
		return nil, err
	}
	var permissions []string
	if err := json.Unmarshal(body, &permissions); err != nil {
		return nil, holdfast.Wrap(holdfast.KindInvalid, err, "the permissions cannot be read").WithHint("send a JSON list, such as [\"get\", \"unwrapKey\"]")
	}
	return done{true}, s.config.Vaults.Permit(r.URL.Query().Get("vault"), permissions)
}

func readBody(r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, requestBytesMax+1))
	if err != nil {
		return nil, holdfast.Wrap(holdfast.KindUnavailable, err, "the request broke off")
	}
	if len(body) > requestBytesMax {
		return nil, holdfast.Errorf(holdfast.KindInvalid, "the request has more than %d bytes", requestBytesMax)
	}
	return body, nil
}
