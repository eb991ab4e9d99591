package fault

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/strictyaml"
)

// rulesMax bounds a plan: every request is held against every rule.
const rulesMax = 1000

// Plan is a fault file: rules and the seed that makes their dice repeatable.
type Plan struct {
	Seed  int64  `yaml:"seed" json:"seed"`
	Rules []Rule `yaml:"rules" json:"rules"`
}

// Rule says which calls go wrong, and how. A call matches a rule when On, Method, Path and Query all match; empty ones
// match everything. Matching calls are counted from 1 for each rule by itself. Call k fires when Calls holds k, or else
// with the chance Probability; a rule with neither fires on every matching call.
type Rule struct {
	On     Surface `yaml:"on" json:"on,omitempty"`         // "" means every surface
	Method string  `yaml:"method" json:"method,omitempty"` // glob
	Path   string  `yaml:"path" json:"path,omitempty"`     // glob over the URL's path; * also matches slashes; case is ignored
	Query  string  `yaml:"query" json:"query,omitempty"`   // glob over the raw query, such as *comp=pagelist*; case is ignored

	Calls       []int   `yaml:"calls" json:"calls,omitempty"`             // which matching calls, counted from 1
	Probability float64 `yaml:"probability" json:"probability,omitempty"` // 0 to 1
	Limit       int     `yaml:"limit" json:"limit,omitempty"`             // fires at most so often; 0 means no limit

	Fault             Kind   `yaml:"fault" json:"fault"`
	RetryAfterSeconds int    `yaml:"retryAfterSeconds" json:"retryAfterSeconds,omitempty"`
	RetryAfterMs      int    `yaml:"retryAfterMs" json:"retryAfterMs,omitempty"` // also sent as retry-after-ms, which Azure's SDKs honour
	AfterEffect       bool   `yaml:"afterEffect" json:"afterEffect,omitempty"`
	DelayMs           int    `yaml:"delayMs" json:"delayMs,omitempty"` // wait before the answer; for stale-list: how far back the list is blind
	Status            int    `yaml:"status" json:"status,omitempty"`
	Code              string `yaml:"code" json:"code,omitempty"`
	Offset            int64  `yaml:"offset" json:"offset,omitempty"` // for omit-ranges: the part of the disk that lists leave out
	Length            int64  `yaml:"length" json:"length,omitempty"`
}

// Load reads and checks a fault file. Errors have KindInvalid and name file, line, column and field; a missing file is
// KindNotFound.
func Load(file string) (Plan, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return Plan{}, holdfast.Wrap(holdfast.KindNotFound, err, "the fault file %s cannot be read", file)
	}
	return Parse(filepath.Base(file), data)
}

// Parse reads and checks the text of a fault file, YAML or JSON; name stands for it in errors.
func Parse(name string, data []byte) (Plan, error) {
	var plan Plan
	document, err := strictyaml.Decode(name, data, &plan)
	if err != nil {
		return Plan{}, err
	}
	if field, problem := plan.check(); problem != "" {
		return Plan{}, document.Errorf(field, "%s", problem)
	}
	// Written out, these would mean "never"; the zero value of a Rule means "always".
	for i, rule := range plan.Rules {
		if field := fmt.Sprintf("rules[%d].probability", i); rule.Probability == 0 && len(rule.Calls) == 0 && document.Has(field) {
			return Plan{}, document.Errorf(field, "a rule with probability 0 never fires; leave the rule out, or the field for every call")
		}
		if field := fmt.Sprintf("rules[%d].calls", i); len(rule.Calls) == 0 && document.Has(field) {
			return Plan{}, document.Errorf(field, "an empty list never fires; leave the rule out, or the field for every call")
		}
	}
	return plan, nil
}

// check returns the field at fault and what is wrong with it; an empty problem means that the plan can be carried out.
func (p Plan) check() (field, problem string) {
	if len(p.Rules) > rulesMax {
		return "rules", "more rules than the 1000 that are accepted"
	}
	for i, rule := range p.Rules {
		if field, problem := rule.check(); problem != "" {
			return fmt.Sprintf("rules[%d].%s", i, field), problem
		}
	}
	return "", ""
}

func (r Rule) check() (field, problem string) {
	switch {
	case !r.On.known():
		return "on", "unknown surface; accepted: arm, entra, disk, blob, vault, or empty for all"
	case r.Fault == "":
		return "fault", "missing; accepted: " + kindNames
	case !r.Fault.known():
		return "fault", "unknown fault; accepted: " + kindNames
	case !(r.Probability >= 0 && r.Probability <= 1):
		return "probability", "out of range; accepted: 0 to 1"
	case r.Limit < 0:
		return "limit", "negative"
	case r.RetryAfterSeconds < 0 || r.RetryAfterSeconds > 24*3600:
		return "retryAfterSeconds", "out of range; accepted: 0 to 86400"
	case r.RetryAfterMs < 0 || r.RetryAfterMs > 24*3600*1000:
		return "retryAfterMs", "out of range; accepted: 0 to 86400000"
	case r.RetryAfterMs > 0 && r.RetryAfterSeconds > 0:
		return "retryAfterMs", "set together with retryAfterSeconds; give one of them"
	case r.DelayMs < 0 || r.DelayMs > 24*3600*1000:
		return "delayMs", "out of range; accepted: 0 to 86400000"
	}
	for i, call := range r.Calls {
		if call < 1 {
			return fmt.Sprintf("calls[%d]", i), "calls are counted from 1"
		}
	}
	return r.checkFit()
}

// checkFit refuses fields that the rule's kind of fault would ignore.
func (r Rule) checkFit() (field, problem string) {
	answers := r.Fault == Throttle || r.Fault == Error
	switch {
	case r.Fault == Slow && r.DelayMs == 0:
		return "delayMs", "missing; the fault slow needs it"
	case r.AfterEffect && !answers && r.Fault != Lost && r.Fault != FailOperation:
		return "afterEffect", "has no meaning for the fault " + string(r.Fault) + "; it goes with throttle, error, lost and fail-operation"
	case (r.RetryAfterMs > 0 || r.RetryAfterSeconds > 0) && !answers:
		return "retryAfterSeconds", "has no meaning for the fault " + string(r.Fault) + "; it goes with throttle and error"
	case r.Status != 0 && !answers:
		return "status", "has no meaning for the fault " + string(r.Fault) + "; it goes with throttle and error"
	case r.Status != 0 && r.Fault == Throttle && r.Status != 429 && r.Status != 503:
		return "status", "out of range; a throttle answers 429 or 503"
	case r.Status != 0 && (r.Status < 400 || r.Status > 599):
		return "status", "out of range; accepted: 400 to 599"
	case r.Code != "" && !answers && r.Fault != FailOperation:
		return "code", "has no meaning for the fault " + string(r.Fault) + "; it goes with throttle, error and fail-operation"
	case r.Fault == OmitRanges && (r.Offset < 0 || r.Length <= 0):
		return "length", "missing; the fault omit-ranges needs offset and length of what is left out"
	case r.Fault != OmitRanges && (r.Offset != 0 || r.Length != 0):
		return "offset", "has no meaning for the fault " + string(r.Fault) + "; it goes with omit-ranges"
	case strings.ContainsAny(r.Code, "<>&\"\r\n"):
		return "code", "an error code is one plain word"
	}
	return "", ""
}

// decision turns the rule, the index-th of its plan, into what is done with a request.
func (r Rule) decision(index int) Decision {
	retryAfter := time.Duration(r.RetryAfterSeconds)*time.Second + time.Duration(r.RetryAfterMs)*time.Millisecond
	if r.Fault == Throttle && retryAfter == 0 {
		retryAfter = time.Second // the platform always sends one
	}
	return Decision{
		Kind: r.Fault, Rule: index, RetryAfter: retryAfter, Delay: time.Duration(r.DelayMs) * time.Millisecond,
		AfterEffect: r.AfterEffect, Status: r.Status, Code: r.Code, Omit: holdfast.Extent{Offset: r.Offset, Length: r.Length},
	}
}

const kindNames = "throttle, error, cut, slow, lost, revoke, stale-list, omit-ranges, fail-operation"

func (k Kind) known() bool {
	switch k {
	case Throttle, Error, Cut, Slow, Lost, Revoke, StaleList, OmitRanges, FailOperation:
		return true
	}
	return false
}

func (s Surface) known() bool {
	switch s {
	case "", ARM, Entra, Disk, Blob, Vault:
		return true
	}
	return false
}
