package explain

import (
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast"
)

// common says what both kinds of policy have; kind names the others among which it has its priority.
func common(c holdfast.PolicyCommon, kind string) []string {
	state := fmt.Sprintf("It is number %d among the %s.", c.Priority, kind)
	if !c.Enabled {
		state = fmt.Sprintf("It is disabled, and does nothing by itself; it would be number %d among the %s.", c.Priority, kind)
	}
	sentences := append([]string{state}, sources(c.Name, c.Sources)...)
	if c.ServiceAccount != "" {
		sentences = append(sentences, fmt.Sprintf("It acts by the permissions of %q.", c.ServiceAccount))
	}
	if s := guest(c.Guest); s != "" {
		sentences = append(sentences, s)
	}
	if s := snapshots(c.Snapshots); s != "" {
		sentences = append(sentences, s)
	}
	return sentences
}

func sources(policy string, s holdfast.Sources) []string {
	where := list(s.Regions)
	var sentences []string
	switch {
	case s.All:
		sentences = append(sentences, "It protects every machine in "+where+".")
	case len(s.Include)+len(s.Conditions) > 0:
		var parts []string
		for _, selector := range s.Include {
			parts = append(parts, selectorWords(selector))
		}
		for _, condition := range s.Conditions {
			parts = append(parts, conditionWords(condition))
		}
		sentences = append(sentences, "It protects in "+where+": "+strings.Join(parts, "; ")+".")
	}
	if s.OnboardByTag {
		sentences = append(sentences, fmt.Sprintf("Machines in %s with the tag %s=%s are protected as well.", where, holdfast.OnboardingTag, policy))
	}
	if len(s.Exclude) > 0 {
		var parts []string
		for _, selector := range s.Exclude {
			parts = append(parts, selectorWords(selector))
		}
		sentences = append(sentences, "It never protects: "+strings.Join(parts, "; ")+".")
	}
	return sentences
}

func selectorWords(s holdfast.Selector) string {
	switch {
	case s.Subscription != "":
		return "machines of the subscription " + s.Subscription
	case s.ResourceGroup != "":
		return "machines of the resource group " + s.ResourceGroup.ResourceGroup()
	case s.Tag != nil:
		return "machines with the tag " + tagWords(*s.Tag)
	}
	return "the machine " + s.VM.Name() + " of the resource group " + s.VM.ResourceGroup()
}

func conditionWords(c holdfast.Condition) string {
	words := "machines"
	switch {
	case c.Subscription != "":
		words += " of the subscription " + c.Subscription
	case c.ResourceGroup != "":
		words += " of the resource group " + c.ResourceGroup.ResourceGroup()
	}
	var tags []string
	for _, tag := range c.Tags {
		tags = append(tags, tagWords(tag))
	}
	return fmt.Sprintf("%s with all of %s (%s)", words, list(tags), c.Name)
}

func tagWords(t holdfast.Tag) string { return t.Name + "=" + t.Value }

func guest(g holdfast.GuestProcessing) string {
	var parts []string
	if g.ApplicationConsistent {
		parts = append(parts, "applications are asked to flush")
	}
	for _, system := range []struct {
		name    string
		scripts holdfast.GuestScripts
	}{{"Windows", g.Windows}, {"Linux", g.Linux}} {
		if system.scripts.Before.Path != "" {
			parts = append(parts, system.scripts.Before.Path+" runs before it in "+system.name)
		}
		if system.scripts.After.Path != "" {
			parts = append(parts, system.scripts.After.Path+" runs after it in "+system.name)
		}
	}
	if len(parts) == 0 {
		return ""
	}
	around := "Around a snapshot of a running machine "
	if g.BackupsOnly {
		around = "Around a snapshot of a running machine that feeds a backup "
	}
	if g.IgnoreMissingScripts {
		parts = append(parts, "a missing script is ignored")
	}
	if g.IgnoreExitCodes {
		parts = append(parts, "what scripts return is ignored")
	}
	return around + list(parts) + "."
}

func snapshots(o holdfast.SnapshotOptions) string {
	var parts []string
	if o.CopyTags {
		parts = append(parts, "get the tags of their disks")
	}
	if len(o.Tags) > 0 {
		var tags []string
		for _, tag := range o.Tags {
			tags = append(tags, tagWords(tag))
		}
		parts = append(parts, "get the tags "+list(tags))
	}
	if len(o.ResourceGroups) > 0 {
		var groups []string
		for subscription, group := range o.ResourceGroups {
			groups = append(groups, group+" in "+subscription)
		}
		slices.Sort(groups)
		parts = append(parts, "go to the resource group "+list(groups))
	}
	if o.CrashConsistent {
		parts = append(parts, "are one crash-consistent set of all disks where Azure can make one")
	}
	if len(parts) == 0 {
		return ""
	}
	return "Snapshots " + list(parts) + "."
}
