package answer

import (
	"net/http"
	"strings"

	"github.com/holdfast-backup/holdfast"
)

// rule says what an error code means to us and what its reader can do.
type rule struct {
	kind holdfast.Kind
	hint string
}

// The hints that several codes share.
const (
	hintRole = "give the identity in the --azure file a role that contains the action named above (Disk Snapshot Contributor and " +
		"Virtual Machine Contributor together contain all of them)"
	hintLock  = "remove the management lock, or move it from the group to the resources that need it, then try again"
	hintQuota = "ask Azure for a higher quota in this region, or choose a smaller size with --size"
	hintPlace = "choose another size with --size, or another zone or region; the capacity may also come back"
	hintSAS   = "end the other export of this disk or snapshot (endGetAccess), then try again"
	hintAgent = "see that the VM agent runs in the guest and reaches Azure storage (168.63.129.16 and port 443)"
	hintAgain = "try again later; the same command may be run any number of times"
)

// ruleFor finds the meaning of an answer: by its code where the code says something of its own, else by its status.
// Codes: reference pages of the compute, storage and resource-manager services, API versions 2026-03-02 and 2026-04-01.
func ruleFor(cause *Cause) rule {
	if r, ok := ruleByCode(cause); ok {
		return r
	}
	switch cause.Status {
	case http.StatusNotFound, http.StatusGone:
		return rule{holdfast.KindNotFound, "check the id; names are listed by `holdfast vm list`"}
	case http.StatusUnauthorized:
		return rule{holdfast.KindRefused, "check tenantId, clientId and endpoints in the --azure file"}
	case http.StatusForbidden:
		return rule{holdfast.KindRefused, hintRole}
	case http.StatusConflict, http.StatusPreconditionFailed:
		return rule{holdfast.KindConflict, hintAgain}
	case http.StatusTooManyRequests:
		return rule{holdfast.KindThrottled, hintAgain}
	case http.StatusBadRequest:
		return rule{holdfast.KindInvalid, ""}
	}
	if cause.Status >= 500 || cause.Status == http.StatusRequestTimeout || cause.Status < 300 {
		return rule{holdfast.KindUnavailable, hintAgain}
	}
	return rule{holdfast.KindInternal, ""}
}

func ruleByCode(cause *Cause) (rule, bool) {
	switch strings.ToLower(cause.Code) {
	case "resourcenotfound", "resourcegroupnotfound", "subscriptionnotfound", "notfound", "parentresourcenotfound":
		return rule{holdfast.KindNotFound, "check the id; names are listed by `holdfast vm list`"}, true
	case "scopelocked":
		return rule{holdfast.KindRefused, hintLock}, true
	case "authorizationfailed", "linkedauthorizationfailed", "denyassignmentauthorizationfailed":
		return rule{holdfast.KindRefused, hintRole}, true
	case "requestdisallowedbypolicy":
		return rule{holdfast.KindRefused, "an Azure Policy forbids this; exempt Holdfast's resources or adapt the policy"}, true
	case "quotaexceeded":
		return rule{holdfast.KindRefused, hintQuota}, true
	case "operationnotallowed":
		if saysQuota(cause) {
			return rule{holdfast.KindRefused, hintQuota}, true
		}
		return rule{holdfast.KindConflict, hintAgain}, true
	case "skunotavailable", "allocationfailed", "zonalallocationfailed", "overconstrainedallocationrequest",
		"overconstrainedzonalallocationrequest":
		return rule{holdfast.KindUnavailable, hintPlace}, true
	case "vmmarketplaceinvalidinput":
		return rule{holdfast.KindInvalid, "the machine's marketplace plan cannot be used; the offer may have been withdrawn"}, true
	case "networkaccesspolicydenied", "publicnetworkaccessdisabled":
		return rule{holdfast.KindRefused, "set the networkAccessPolicy of the disk to AllowAll, or run where its private endpoint can be reached"}, true
	case "changedisksizewhileactivesasnotallowed":
		return rule{holdfast.KindConflict, hintSAS}, true
	case "vmagentstatuscommunicationerror":
		return rule{holdfast.KindUnavailable, hintAgent}, true
	case "vmrestorepointclienterror", "vmrestorepointinternalerror":
		return rule{holdfast.KindUnavailable, "look at the VSS writers in the guest (vssadmin list writers), or ask for a crash-consistent point"}, true
	case "vmextensionprovisioningtimeout":
		return rule{holdfast.KindUnavailable, "the script ran for more than 90 minutes; make it end earlier"}, true
	case "diskrestorepointusedbycustomer":
		return rule{holdfast.KindConflict, hintSAS}, true
	case "operationpreempted":
		return rule{holdfast.KindConflict, "the machine was stopped, started or changed meanwhile; " + hintAgain}, true
	case "toomanyrequests", "subscriptionrequeststhrottled", "serverbusy":
		return rule{holdfast.KindThrottled, hintAgain}, true
	case "authenticationfailed":
		return rule{holdfast.KindRefused, "the access granted to this disk has ended; run the command again"}, true
	}
	return rule{}, false
}
