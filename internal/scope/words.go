package scope

import (
	"fmt"
	"strings"

	"github.com/holdfast-backup/holdfast"
)

// Because says in words why the policy does not get the machine.
func (o Other) Because() string {
	switch o.Loss {
	case LossNoOnboarding:
		return "it takes no machines by their tag"
	case LossRegion:
		return o.By + " is none of its regions"
	case LossExcluded:
		return "it excludes " + o.By
	case LossKind:
		return fmt.Sprintf("the SLA policy %s goes first", o.By)
	case LossPriority:
		if o.first.Priority == o.Policy.Priority {
			return o.By + " goes first, by its name"
		}
		return fmt.Sprintf("%s goes first: priority %d before %d", o.By, o.first.Priority, o.Policy.Priority)
	}
	return ""
}

func tagText(tag holdfast.Tag) string { return tag.Name + "=" + tag.Value }

func tagWords(tag holdfast.Tag) string { return "tag " + tagText(tag) }

func groupWords(group holdfast.ResourceID) string { return "resource group " + group.ResourceGroup() }

func subscriptionWords(subscription string) string { return "subscription " + subscription }

// conditionWords names a condition and its parts: "condition gold: resource group shop and tag tier=1".
func conditionWords(c holdfast.Condition) string {
	var parts []string
	if c.Subscription != "" {
		parts = append(parts, subscriptionWords(c.Subscription))
	}
	if c.ResourceGroup != "" {
		parts = append(parts, groupWords(c.ResourceGroup))
	}
	for _, tag := range c.Tags {
		parts = append(parts, tagWords(tag))
	}
	return "condition " + c.Name + ": " + strings.Join(parts, " and ")
}
