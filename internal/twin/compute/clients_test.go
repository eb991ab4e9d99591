package compute_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	azfake "github.com/Azure/azure-sdk-for-go/sdk/azcore/fake"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armresources/v4"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armsubscriptions/v2"

	"github.com/holdfast-backup/holdfast/internal/clock"
)

// TestSDK_SubscriptionsLocationsAndGroups through Microsoft's own clients.
func TestSDK_SubscriptionsLocationsAndGroups(t *testing.T) {
	w := newWorld(t, clock.System{}, plainEstate())
	credential := &azfake.TokenCredential{}
	subscriptions := must(armsubscriptions.NewClient(credential, w.options))(t)
	listed := must(subscriptions.NewListPager(nil).NextPage(t.Context()))(t)
	if len(listed.Value) != 1 || *listed.Value[0].DisplayName != "production" {
		t.Fatalf("subscriptions %v", listed.Value)
	}
	locations := must(subscriptions.NewListLocationsPager(subscription, nil).NextPage(t.Context()))(t)
	if len(locations.Value) < 50 {
		t.Fatalf("%d locations", len(locations.Value))
	}
	groups := must(armresources.NewResourceGroupsClient(subscription, credential, w.options))(t)
	if exists := must(groups.CheckExistence(t.Context(), "restored", nil))(t); exists.Success {
		t.Fatal("a group that was not made exists")
	}
	must(groups.CreateOrUpdate(t.Context(), "restored", armresources.ResourceGroup{Location: to.Ptr(location)}, nil))(t)
	if exists := must(groups.CheckExistence(t.Context(), "Restored", nil))(t); !exists.Success {
		t.Fatal("the group does not exist")
	}
	poller, err := groups.BeginDelete(t.Context(), "restored", nil)
	done(t, poller, err)
	pager := groups.NewListPager(nil)
	if page := must(pager.NextPage(t.Context()))(t); len(page.Value) != 1 {
		t.Fatalf("%d groups", len(page.Value))
	}
}

// TestSDK_GenericResources: a NIC, a disk and lists by the generic client.
func TestSDK_GenericResources(t *testing.T) {
	w := newWorld(t, clock.System{}, plainEstate())
	nic := must(w.makeNIC("n", "10.1.1.77"))(t)
	_, err := w.makeNIC("other", "10.1.1.77")
	wantCode(t, err, "PrivateIPAddressInUse")
	held := must(w.generic().GetByID(t.Context(), strings.ToUpper(nicPrefix)+"WEB-1-NIC", networkVersion, nil))(t)
	if !strings.Contains(fmt.Sprint(held.Properties), machineID) {
		t.Fatalf("the NIC does not name its VM: %v", held.Properties)
	}
	disk := must(w.generic().GetByID(t.Context(), diskPrefix+"web-1-os", "2025-01-02", nil))(t)
	if *disk.SKU.Name != "Premium_LRS" || *disk.ManagedBy != machineID {
		t.Fatalf("generic disk %+v", disk.GenericResource)
	}
	pager := w.generic().NewListPager(&armresources.ClientListOptions{Filter: to.Ptr("tagName eq 'env' and tagValue eq 'prod'")})
	count := 0
	for pager.More() {
		count += len(must(pager.NextPage(t.Context()))(t).Value)
	}
	if count != 3 { // the VM and its two disks
		t.Fatalf("%d resources have the tag", count)
	}
	remove, err := w.generic().BeginDeleteByID(t.Context(), nic, networkVersion, nil)
	done(t, remove, err)
	update, err := w.generic().BeginUpdateByID(t.Context(), diskPrefix+"web-1-data", "2024-03-02", armresources.GenericResource{Tags: map[string]*string{"only": to.Ptr("one")}}, nil)
	done(t, update, err)
	if after := must(w.disks.Get(t.Context(), group, "web-1-data", nil))(t); len(after.Tags) != 1 {
		t.Fatalf("tags %v", after.Tags)
	}
}

// TestConcurrentClients: many at once lose nothing, and each name is made once.
func TestConcurrentClients(t *testing.T) {
	w := newWorld(t, clock.System{}, plainEstate())
	var working sync.WaitGroup
	failures := make(chan error, 64)
	for i := range 16 {
		working.Go(func() {
			poller, err := w.disks.BeginCreateOrUpdate(t.Context(), group, fmt.Sprintf("d%d", i), emptyDisk(4, "Premium_LRS"), nil)
			if err == nil {
				_, err = poller.PollUntilDone(t.Context(), nil)
			}
			if err != nil {
				failures <- err
			}
			pager := w.disks.NewListPager(nil)
			seen := map[string]bool{}
			for pager.More() {
				page, err := pager.NextPage(t.Context())
				if err != nil {
					failures <- err
					return
				}
				for _, disk := range page.Value {
					seen[*disk.Name] = true
				}
			}
			if !seen[fmt.Sprintf("d%d", i)] {
				failures <- fmt.Errorf("d%d is missing from the list that followed it", i)
			}
		})
	}
	working.Wait()
	close(failures)
	for err := range failures {
		t.Error(err)
	}
	if n := len(w.volumes.List()); n != 18 {
		t.Errorf("%d volumes", n)
	}
}

// TestConcurrentAttach: of many VMs that want one disk exactly one gets it.
func TestConcurrentAttach(t *testing.T) {
	w := newWorld(t, clock.System{}, plainEstate())
	osDisk := w.freeDisk("os", "Premium_LRS", "1", 32, true)
	var nics []string
	for i := range 8 {
		nics = append(nics, must(w.makeNIC(fmt.Sprintf("n%d", i), ""))(t))
	}
	won := make(chan string, 8)
	var working sync.WaitGroup
	for i, nic := range nics {
		working.Go(func() {
			name := fmt.Sprintf("vm%d", i)
			poller, err := w.machines.BeginCreateOrUpdate(t.Context(), group, name, machine("Standard_D2s_v5", osDisk, nic), nil)
			if err != nil {
				return
			}
			if _, err = poller.PollUntilDone(t.Context(), nil); err == nil {
				won <- name
			}
		})
	}
	working.Wait()
	close(won)
	var winners []string
	for name := range won {
		winners = append(winners, name)
	}
	disk := must(w.disks.Get(t.Context(), group, "os", nil))(t)
	if len(winners) != 1 || !strings.HasSuffix(*disk.ManagedBy, "/"+winners[0]) {
		t.Fatalf("winners %v, disk held by %v", winners, *disk.ManagedBy)
	}
}
