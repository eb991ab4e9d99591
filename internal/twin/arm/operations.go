package arm

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast/internal/twin/fault"
	"github.com/holdfast-backup/holdfast/internal/twin/state"
)

// Operation is a long-running operation that a handler starts. It survives a restart of the twin as a document.
type Operation struct {
	Kind      string // which Finisher completes it; "" for one that only ends
	Resource  string // ARM id that it works on; other writes to it are refused meanwhile
	Location  string // of the resource; part of the polling path
	Namespace string // such as Microsoft.Compute; part of the polling path
	Path      string // the collection of the polling path: operations, DiskOperations
	Arguments state.Object
	Time      time.Duration // 0 means the server's OperationTime
	Shared    bool          // leaves the resource free for other writes
	Fail      *Error        // what the operation ends with, after its finisher did its work; nil for success

	failWith *Error
}

// Finisher completes an operation when it is due, in a transaction of its own. The output, if not nil, is what pollers
// find in properties.output and at Location. An *Error ends the operation as Failed, and the transaction is dropped.
type Finisher func(tx *state.Tx, op *state.Document, now time.Time) (output state.Object, err error)

// The kinds that the server completes itself.
const (
	finishProvision   = "provision"
	finishDelete      = "delete"
	finishDeleteGroup = "deleteGroup"
)

const (
	operationsPrefix   = "operations/" // the documents of operations
	agendaPrefix       = "agenda/"     // one document per moment at which an operation ends or is forgotten
	operationRetention = 24 * time.Hour
	noneDue            = math.MaxInt64
)

// Provisioning returns the operation that ends the creation or change of a resource: it sets provisioningState.
func Provisioning(resource, location, namespace, path string) *Operation {
	return &Operation{Kind: finishProvision, Resource: resource, Location: location, Namespace: namespace, Path: path}
}

// record stores the operation of an answer and sets the polling headers. It runs in the request's transaction.
func (s *Server) record(call *Call, answer *Answer) {
	op, id := answer.Operation, uuid.NewString()
	took := op.Time
	if took <= 0 {
		took = s.config.OperationTime
	}
	due := call.Now.Add(took)
	doc := &state.Document{ID: operationsPrefix + id, Created: call.Now, Body: state.Object{}, Hidden: state.Object{}}
	doc.Body.Set("name", id)
	doc.Body.Set("status", "InProgress")
	doc.Body.Set("startTime", call.Now)
	doc.Hidden.Set("kind", op.Kind)
	doc.Hidden.Set("resource", op.Resource)
	doc.Hidden.Set("method", call.Method)
	doc.Hidden.Set("version", call.Version)
	if op.Arguments != nil {
		doc.Hidden.Set("arguments", op.Arguments)
	}
	if op.failWith == nil {
		op.failWith = op.Fail
	}
	if op.failWith != nil {
		doc.Hidden.Set("failCode", op.failWith.Code)
		doc.Hidden.Set("failMessage", op.failWith.Message)
	}
	call.Tx.Put(doc)
	s.schedule(call.Tx, id, due)
	if resource := call.Tx.Get(op.Resource); resource != nil && op.Kind != "" && !op.Shared {
		busy := resource.Clone()
		if busy.Hidden == nil {
			busy.Hidden = state.Object{}
		}
		busy.Hidden.Set("operation", id)
		call.Tx.Put(busy)
	}
	answer.Header = s.pollingHeaders(call, op, id, answer.Header)
}

func (s *Server) pollingHeaders(call *Call, op *Operation, id string, header http.Header) http.Header {
	if header == nil {
		header = http.Header{}
	}
	subscription := call.Path[:len("/subscriptions/")+len(call.subscription())]
	path := subscription + "/providers/" + op.Namespace + "/locations/" + op.Location + "/" + op.Path + "/" + id
	url := call.base + path + "?api-version=" + call.Version
	header.Set("Azure-Asyncoperation", url)
	header.Set("Location", url+"&monitor=true")
	s.retryAfter(header)
	return header
}

// retryAfter sets what pollers are asked to wait: the platform's header in whole seconds, and the milliseconds that the
// SDKs honour above it.
func (s *Server) retryAfter(header http.Header) {
	wait := s.config.PollAfter
	header.Set("Retry-After", strconv.FormatInt(int64((wait+time.Second-1)/time.Second), 10))
	header.Set("Retry-After-Ms", strconv.FormatInt(max(1, wait.Milliseconds()), 10))
}

func (s *Server) schedule(tx *state.Tx, id string, due time.Time) {
	tx.Put(&state.Document{ID: fmt.Sprintf("%s%020d/%s", agendaPrefix, due.UnixNano(), id)})
	tx.OnCommit(func() { s.hasten(due.UnixNano()) })
}

func (s *Server) hasten(due int64) {
	for {
		present := s.nextDue.Load()
		if present <= due || s.nextDue.CompareAndSwap(present, due) {
			return
		}
	}
}

// Settle completes every operation that has come due. Requests do it by themselves; who looks at the state from outside
// calls it first.
func (s *Server) Settle() error {
	now := s.clock.Now().UTC()
	if now.UnixNano() < s.nextDue.Load() {
		return nil
	}
	s.nextDue.Store(noneDue)
	for entry := range s.state.View().Below(agendaPrefix) {
		due, id, err := parseAgenda(entry.ID)
		if err != nil {
			return err
		}
		if due > now.UnixNano() {
			s.hasten(due)
			break
		}
		if err := s.complete(entry.ID, id, now); err != nil {
			s.hasten(due)
			return err
		}
	}
	return nil
}

func parseAgenda(entry string) (due int64, id string, err error) {
	moment, id, _ := strings.Cut(strings.TrimPrefix(entry, agendaPrefix), "/")
	due, err = strconv.ParseInt(moment, 10, 64)
	return due, id, err
}

// complete ends one operation, or forgets one that ended long ago.
func (s *Server) complete(entry, id string, now time.Time) error {
	var refusal *Error
	finish := func(fail *Error) error {
		return s.state.Update(func(tx *state.Tx) error {
			if tx.Get(entry) == nil {
				return nil // another request was faster
			}
			tx.Delete(entry)
			op := tx.Get(operationsPrefix + id)
			if op == nil || op.Body.Text("status") != "InProgress" {
				tx.Delete(operationsPrefix + id)
				return nil
			}
			return s.end(tx, op.Clone(), now, fail, &refusal)
		})
	}
	err := finish(nil)
	if err != nil && refusal != nil {
		return finish(refusal) // the finisher's work was dropped; now the failure is recorded
	}
	return err
}

// end runs the finisher and records the outcome. When the finisher refuses, the refusal is handed out and returned so
// that the transaction is dropped; with fail set the operation just ends as Failed.
func (s *Server) end(tx *state.Tx, op *state.Document, now time.Time, fail *Error, refusal **Error) error {
	finisher := s.finishers[op.Hidden.Text("kind")]
	s.release(tx, op)
	if fail == nil && finisher != nil {
		output, err := finisher(tx, op, now)
		if err != nil {
			*refusal = errorOf(err)
			return *refusal
		}
		if output != nil {
			op.Body.Set("properties.output", output)
		}
	}
	if code := op.Hidden.Text("failCode"); fail == nil && code != "" {
		fail = Errorf(http.StatusConflict, code, "%s", op.Hidden.Text("failMessage"))
	}
	op.Body.Set("status", "Succeeded")
	op.Body.Set("endTime", now)
	if fail != nil {
		op.Body.Set("status", "Failed")
		op.Body.Set("error", state.Object{"code": fail.Code, "message": fail.Message})
		op.Body.Remove("properties")
	}
	tx.Put(op)
	s.schedule(tx, op.Body.Text("name"), now.Add(operationRetention))
	return nil
}

// release frees the resource for other writes.
func (s *Server) release(tx *state.Tx, op *state.Document) {
	resource := tx.Get(op.Hidden.Text("resource"))
	if resource == nil || resource.Hidden.Text("operation") != op.Body.Text("name") {
		return
	}
	free := resource.Clone()
	free.Hidden.Remove("operation")
	free.Hidden.Remove("deleting")
	tx.Put(free)
}

// Busy reports whether an operation is under way on the resource.
func Busy(resource *state.Document) bool { return resource.Hidden.Text("operation") != "" }

// provisioned ends a creation or change.
func (s *Server) provisioned(tx *state.Tx, op *state.Document, now time.Time) (state.Object, error) {
	resource := tx.Get(op.Hidden.Text("resource"))
	if resource == nil {
		return nil, Errorf(http.StatusNotFound, "ResourceNotFound", "The resource was removed while the operation was under way.")
	}
	ready := resource.Clone()
	ready.Body.Set("properties.provisioningState", "Succeeded")
	tx.Put(ready)
	return s.render(tx.View, ready), nil
}

// failureOf says how an operation ends that the fault engine wants to fail.
func failureOf(decision fault.Decision) *Error {
	code := decision.Code
	if code == "" {
		code = "InternalExecutionError"
	}
	return Errorf(http.StatusConflict, code, "An internal execution error occurred. Please retry later.")
}

// operationStatus serves both polling URLs: the status document, and with monitor=true the outcome itself.
func (s *Server) operationStatus(call *Call) (Answer, error) {
	op := call.View.Get(operationsPrefix + call.Params["operation"])
	if op == nil {
		return Answer{}, Errorf(http.StatusNotFound, "NotFound", "The entity was not found: no operation %s.", call.Params["operation"])
	}
	monitor := queryValue(call.Query, "monitor") == "true"
	answer := Answer{Body: op.Body, Header: http.Header{}}
	status := op.Body.Text("status")
	if status == "InProgress" {
		s.retryAfter(answer.Header)
		answer.Header.Set("Location", call.base+call.Path+"?api-version="+call.Version+"&monitor=true")
	}
	switch {
	case monitor && status == "InProgress":
		return Answer{Status: http.StatusAccepted, Header: answer.Header}, nil
	case monitor && status == "Failed":
		return Answer{}, Errorf(http.StatusConflict, op.Body.Text("error.code"), "%s", op.Body.Text("error.message"))
	case monitor:
		answer.Body = state.Object{} // JavaScript's client refuses a 204 here
		if output := op.Body.Object("properties.output"); output != nil {
			answer.Body = output
		}
	}
	return answer, nil
}
