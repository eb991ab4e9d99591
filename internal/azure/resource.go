package azure

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armresources/v4"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/azure/answer"
	"github.com/holdfast-backup/holdfast/internal/machine"
)

// The resource types that this package changes, in lower case.
const (
	typeMachine  = "microsoft.compute/virtualmachines"
	typeDisk     = "microsoft.compute/disks"
	typeSnapshot = "microsoft.compute/snapshots"
	typeNIC      = "microsoft.network/networkinterfaces"
)

// The api-versions of generic calls.
const (
	networkVersion = "2024-05-01"
	computeVersion = "2024-07-01" // virtual machines
	diskVersion    = "2024-03-02" // disks and snapshots
	locksVersion   = "2020-05-01"
)

func typeOf(id holdfast.ResourceID) string { return strings.ToLower(id.Type()) }

// versionFor returns the api-version for generic calls on a resource.
func versionFor(id holdfast.ResourceID) (string, error) {
	switch {
	case typeOf(id) == typeMachine:
		return computeVersion, nil
	case typeOf(id) == typeDisk, typeOf(id) == typeSnapshot:
		return diskVersion, nil
	case strings.HasPrefix(typeOf(id), "microsoft.network/"):
		return networkVersion, nil
	}
	return "", holdfast.Errorf(holdfast.KindInternal, "resources of type %q are not handled", id.Type())
}

// Resource reads any resource this package handles, by its id and never by a listing; KindNotFound when there is none.
func (c *Client) Resource(ctx context.Context, id holdfast.ResourceID) (machine.Resource, error) {
	r, err := c.resource(ctx, id)
	return r, answer.Explain(err, "read "+id.Name())
}

func (c *Client) resource(ctx context.Context, id holdfast.ResourceID) (machine.Resource, error) {
	sub, err := c.in(id.Subscription())
	if err != nil {
		return machine.Resource{}, err
	}
	version, err := versionFor(id)
	if err != nil {
		return machine.Resource{}, err
	}
	var found armresources.GenericResource
	document, err := captured(ctx, id, func(ctx context.Context) error {
		response, err := sub.resources.GetByID(ctx, string(id), version, nil)
		found = response.GenericResource
		return err
	})
	if err != nil {
		return machine.Resource{}, err
	}
	r := machine.Resource{ID: id, Location: text(found.Location), Tags: tagsOf(found.Tags), Document: document}
	if found.ID != nil {
		r.ID = holdfast.ResourceID(*found.ID)
	}
	if properties, ok := found.Properties.(map[string]any); ok {
		r.State, _ = properties["provisioningState"].(string)
	}
	return r, nil
}

// Put creates a disk, network interface or virtual machine from a body in the form of its REST page. When the outcome of a
// request is unknown, a resource of that name counts as made by it only if it bears all the tags of the body.
func (c *Client) Put(ctx context.Context, id holdfast.ResourceID, body json.RawMessage) error {
	var ours struct {
		Tags map[string]string `json:"tags"`
	}
	if err := json.Unmarshal(body, &ours); err != nil {
		return holdfast.Wrap(holdfast.KindInternal, err, "the description of %s is not JSON", id.Name())
	}
	attempt, err := c.putter(id, body)
	if err != nil {
		return err
	}
	return c.carryOut(ctx, change{
		doing:   "create " + id.Name(),
		attempt: attempt,
		look: func(ctx context.Context) (bool, error) {
			found, err := c.resource(ctx, id)
			switch {
			case answer.NotFound(err):
				return false, nil
			case err != nil:
				return false, err
			case !sameTags(found.Tags, ours.Tags):
				return false, taken(id)
			}
			return stateOf(found.State)
		},
	})
}

// putter returns the SDK call that creates a resource of id's type.
func (c *Client) putter(id holdfast.ResourceID, body json.RawMessage) (func(ctx context.Context) error, error) {
	sub, err := c.in(id.Subscription())
	if err != nil {
		return nil, err
	}
	group, name := id.ResourceGroup(), id.Name()
	switch typeOf(id) {
	case typeDisk:
		var disk armcompute.Disk
		err = disk.UnmarshalJSON(body)
		return func(ctx context.Context) error {
			_, err := finish(ctx, c, func(ctx context.Context) (*runtime.Poller[armcompute.DisksClientCreateOrUpdateResponse], error) {
				return sub.disks.BeginCreateOrUpdate(ctx, group, name, disk, nil)
			})
			return err
		}, unusable(err, id)
	case typeMachine:
		var vm armcompute.VirtualMachine
		err = vm.UnmarshalJSON(body)
		return func(ctx context.Context) error {
			_, err := finish(ctx, c, func(ctx context.Context) (*runtime.Poller[armcompute.VirtualMachinesClientCreateOrUpdateResponse], error) {
				return sub.machines.BeginCreateOrUpdate(ctx, group, name, vm, nil)
			})
			return err
		}, unusable(err, id)
	}
	version, err := versionFor(id)
	if err != nil {
		return nil, err
	}
	var generic armresources.GenericResource
	err = generic.UnmarshalJSON(body)
	return func(ctx context.Context) error {
		_, err := finish(ctx, c, func(ctx context.Context) (*runtime.Poller[armresources.ClientCreateOrUpdateByIDResponse], error) {
			return sub.resources.BeginCreateOrUpdateByID(ctx, string(id), version, generic, nil)
		})
		return err
	}, unusable(err, id)
}

func unusable(err error, id holdfast.ResourceID) error {
	if err == nil {
		return nil
	}
	return holdfast.Wrap(holdfast.KindInternal, err, "the description of %s cannot be used", id.Name())
}

// SetTags replaces all tags of a resource.
func (c *Client) SetTags(ctx context.Context, id holdfast.ResourceID, tags map[string]string) error {
	sub, err := c.in(id.Subscription())
	if err != nil {
		return err
	}
	version, err := versionFor(id)
	if err != nil {
		return err
	}
	return c.carryOut(ctx, change{
		doing: "tag " + id.Name(),
		attempt: func(ctx context.Context) error {
			_, err := finish(ctx, c, func(ctx context.Context) (*runtime.Poller[armresources.ClientUpdateByIDResponse], error) {
				return sub.resources.BeginUpdateByID(ctx, string(id), version, armresources.GenericResource{Tags: tagsFor(tags)}, nil)
			})
			return err
		},
		look: func(ctx context.Context) (bool, error) {
			found, err := c.resource(ctx, id)
			if err != nil {
				return false, err
			}
			return len(found.Tags) == len(tags) && sameTags(found.Tags, tags), nil
		},
	})
}

// Delete ends all access through SAS to a disk or snapshot and removes the resource. One that does not exist is no error.
// Whether it is ours to remove is for the caller to know.
func (c *Client) Delete(ctx context.Context, id holdfast.ResourceID) error {
	attempt, err := c.deleter(id)
	if err != nil {
		return err
	}
	return c.carryOut(ctx, change{
		doing: "delete " + id.Name(),
		attempt: func(ctx context.Context) error {
			err := attempt(ctx)
			if answer.NotFound(err) {
				return nil
			}
			if answer.Status(err) != http.StatusConflict || !hasAccess(id) || strings.EqualFold(answer.Code(err), "ScopeLocked") {
				return err
			}
			if err := c.endAccess(ctx, id); err != nil {
				return err
			}
			if err = attempt(ctx); answer.NotFound(err) {
				return nil
			}
			return err
		},
		look: func(ctx context.Context) (bool, error) {
			_, err := c.resource(ctx, id)
			if answer.NotFound(err) {
				return true, nil
			}
			return false, err
		},
	})
}

// deleter returns the SDK call that deletes a resource of id's type.
func (c *Client) deleter(id holdfast.ResourceID) (func(ctx context.Context) error, error) {
	sub, err := c.in(id.Subscription())
	if err != nil {
		return nil, err
	}
	group, name := id.ResourceGroup(), id.Name()
	switch typeOf(id) {
	case typeSnapshot:
		return func(ctx context.Context) error {
			_, err := finish(ctx, c, func(ctx context.Context) (*runtime.Poller[armcompute.SnapshotsClientDeleteResponse], error) {
				return sub.snapshots.BeginDelete(ctx, group, name, nil)
			})
			return err
		}, nil
	case typeDisk:
		return func(ctx context.Context) error {
			_, err := finish(ctx, c, func(ctx context.Context) (*runtime.Poller[armcompute.DisksClientDeleteResponse], error) {
				return sub.disks.BeginDelete(ctx, group, name, nil)
			})
			return err
		}, nil
	case typeMachine:
		return func(ctx context.Context) error {
			_, err := finish(ctx, c, func(ctx context.Context) (*runtime.Poller[armcompute.VirtualMachinesClientDeleteResponse], error) {
				return sub.machines.BeginDelete(ctx, group, name, nil)
			})
			return err
		}, nil
	}
	version, err := versionFor(id)
	return func(ctx context.Context) error {
		_, err := finish(ctx, c, func(ctx context.Context) (*runtime.Poller[armresources.ClientDeleteByIDResponse], error) {
			return sub.resources.BeginDeleteByID(ctx, string(id), version, nil)
		})
		return err
	}, err
}
