// Microsoft's JavaScript SDK against the twin: a client that nobody here wrote says whether the twin answers as Azure does.
//
// Reads one JSON object from standard input (see test/holdout) and prints a line "ok NAME" for each step. The first step
// that fails ends the run with "failed NAME" and what went wrong.

import assert from "node:assert/strict";
import { text } from "node:stream/consumers";

import { ComputeManagementClient } from "@azure/arm-compute";
import { ClientSecretCredential } from "@azure/identity";
import { BlobSASPermissions, BlobServiceClient, BlockBlobClient, PageBlobClient, generateBlobSASQueryParameters } from "@azure/storage-blob";

const given = JSON.parse(await text(process.stdin));
const MiB = 1 << 20;

const credential = new ClientSecretCredential(given.tenant, given.client, given.secret, {
  authorityHost: given.activeDirectory,
  disableInstanceDiscovery: true,
});
const compute = new ComputeManagementClient(credential, given.subscription, { endpoint: given.resourceManager });
const blobs = new BlobServiceClient(given.blob.replace("{account}", given.account), credential);

// step runs one part and tells how it went.
async function step(name, part) {
  try {
    const result = await part();
    console.log(`ok ${name}`);
    return result;
  } catch (error) {
    console.log(`failed ${name}`);
    console.log(error?.stack ?? error);
    if (error?.response || error?.details) console.log(JSON.stringify({ status: error.statusCode, code: error.code, details: error.details }, null, 1));
    process.exit(1);
  }
}

// refused runs a part that must fail, and returns the error after comparing status and code.
async function refused(status, code, part) {
  let error;
  try {
    await part();
  } catch (e) {
    error = e;
  }
  assert.ok(error, `it was carried out; ${status} ${code} was expected`);
  assert.equal(Number(error.statusCode), status, error.message);
  if (code) assert.equal(error.code ?? error.details?.errorCode, code, error.message);
  return error;
}

async function all(pages) {
  const found = [];
  for await (const one of pages) found.push(one);
  return found;
}

// guest does something to a disk as its guest would, through the twin's control API.
async function guest(verb, disk, query, content) {
  const url = `${given.control.url}/_twin/disk/${verb}?${new URLSearchParams({ disk, ...query })}`;
  const answer = await fetch(url, { method: "POST", headers: { authorization: `Bearer ${given.control.token}` }, body: content });
  assert.equal(answer.status, 200, await answer.text());
}
const guestWrites = (disk, offset, content) => guest("write", disk, { offset }, content);
const guestDiscards = (disk, offset, length) => guest("zero", disk, { offset, length });

// snapshot makes an incremental snapshot of a disk and returns it.
function snapshot(name, disk) {
  return compute.snapshots.createOrUpdate(given.group, name, {
    location: given.location,
    incremental: true,
    creationData: { createOption: "Copy", sourceResourceId: disk },
    tags: { purpose: "holdout" },
  });
}

async function access(name) {
  const granted = await compute.snapshots.grantAccess(given.group, name, { access: "Read", durationInSeconds: 3600 });
  assert.match(granted.accessSAS, /^https:\/\/.*\/abcd\?/);
  return granted.accessSAS;
}

// whole repairs the ranges of @azure/storage-blob 12.33.0, which counts each a byte short: the service names the first and
// the last byte, and the SDK subtracts the one from the other.
const whole = (ranges) => (ranges ?? []).map(({ offset, count }) => ({ offset, count: count + 1 }));

// -- virtual machines ---------------------------------------------------------------------------------------------------

await step("list machines over several pages", async () => {
  const names = (await all(compute.virtualMachines.listAll())).map((vm) => vm.name).sort();
  assert.deepEqual(names, given.machines);
  let pages = 0;
  for await (const page of compute.virtualMachines.listAll().byPage()) {
    assert.ok(page.length <= 2);
    pages++;
  }
  assert.ok(pages > 1, "everything came on one page");
});

const machine = await step("get a machine with its instance view", async () => {
  const vm = await compute.virtualMachines.get(given.group, given.machines[0], { expand: "instanceView" });
  assert.equal(vm.provisioningState, "Succeeded");
  assert.match(vm.vmId, /^[0-9a-f-]{36}$/);
  const codes = vm.instanceView.statuses.map((status) => status.code);
  assert.ok(codes.includes("PowerState/running"), codes.join());
  assert.equal(vm.storageProfile.osDisk.osType, "Linux");
  return vm;
});
const diskID = machine.storageProfile.osDisk.managedDisk.id;

await step("be told that a machine is missing", async () => {
  await refused(404, "ResourceNotFound", () => compute.virtualMachines.get(given.group, "nobody"));
  await refused(404, "ResourceGroupNotFound", () => compute.virtualMachines.get("no-such-group", "nobody"));
});

await step("read sizes and usage", async () => {
  const kinds = new Set((await all(compute.resourceSkus.list({ filter: `location eq '${given.location}'` }))).map((sku) => sku.resourceType));
  assert.ok(kinds.has("virtualMachines"), [...kinds].join());
  const cores = (await all(compute.usage.list(given.location))).find((usage) => usage.name.value === "cores");
  assert.ok(cores && cores.limit > 0);
});

// -- snapshots and their content ----------------------------------------------------------------------------------------

const first = Buffer.alloc(MiB, "first ");
await step("make an incremental snapshot", async () => {
  await guestWrites(diskID, 8 * MiB, first);
  const made = await snapshot("holdout-1", diskID);
  assert.equal(made.provisioningState, "Succeeded");
  assert.equal(made.incremental, true);
  assert.match(made.incrementalSnapshotFamilyId, /^[0-9a-f-]{36}$/);
  assert.deepEqual(made.tags, { purpose: "holdout" });
});

const firstSAS = await step("get a SAS", () => access("holdout-1"));

await step("read page ranges and content", async () => {
  const blob = new PageBlobClient(firstSAS);
  const properties = await blob.getProperties();
  assert.equal(properties.blobType, "PageBlob");
  assert.equal(properties.contentLength, given.osDiskBytes + 512);
  const listed = await blob.getPageRanges(0, given.osDiskBytes);
  assert.deepEqual(whole(listed.pageRange), [{ offset: 8 * MiB, count: MiB }]);
  assert.deepEqual(await blob.downloadToBuffer(8 * MiB, MiB), first);
  const footer = await blob.downloadToBuffer(given.osDiskBytes, 512);
  assert.equal(footer.toString("latin1", 0, 8), "conectix");
});

await step("be refused to delete what has an active SAS", async () => {
  const error = await refused(409, "OperationNotAllowed", () => compute.snapshots.delete(given.group, "holdout-1"));
  assert.match(error.message, /shared access signature/);
  assert.equal((await compute.snapshots.get(given.group, "holdout-1")).diskState, "ActiveSAS");
});

const second = Buffer.alloc(64 << 10, "second ");
const secondSAS = await step("make a second snapshot of the same family", async () => {
  await guestWrites(diskID, 9 * MiB, second);
  await guestDiscards(diskID, 12 * MiB, MiB);
  const [older, newer] = [await compute.snapshots.get(given.group, "holdout-1"), await snapshot("holdout-2", diskID)];
  assert.equal(newer.incrementalSnapshotFamilyId, older.incrementalSnapshotFamilyId);
  return access("holdout-2");
});

await step("read what changed between two snapshots", async () => {
  const blob = new PageBlobClient(secondSAS);
  const changed = await blob.getPageRangesDiffForManagedDisks(0, given.osDiskBytes, firstSAS);
  assert.deepEqual(whole(changed.pageRange), [{ offset: 9 * MiB, count: second.length }]);
  assert.deepEqual(whole(changed.clearRange), [{ offset: 12 * MiB, count: MiB }]);
  assert.deepEqual(await blob.downloadToBuffer(9 * MiB, second.length), second);
  assert.deepEqual(await new PageBlobClient(firstSAS).downloadToBuffer(9 * MiB, second.length), Buffer.alloc(second.length));
});

await step("be refused a comparison the wrong way round", () =>
  refused(400, undefined, () => new PageBlobClient(firstSAS).getPageRangesDiffForManagedDisks(0, given.osDiskBytes, secondSAS)));

await step("revoke access", async () => {
  await compute.snapshots.revokeAccess(given.group, "holdout-1");
  await compute.snapshots.revokeAccess(given.group, "holdout-2");
  await refused(403, "AuthenticationFailed", () => new PageBlobClient(firstSAS).downloadToBuffer(0, 512));
});

await step("delete the snapshots", async () => {
  await compute.snapshots.delete(given.group, "holdout-1");
  await compute.snapshots.delete(given.group, "holdout-2");
  await refused(404, "ResourceNotFound", () => compute.snapshots.get(given.group, "holdout-1"));
  assert.deepEqual(await all(compute.snapshots.list()), []);
});

await step("upload a disk", async () => {
  const sizeBytes = 1024 * MiB;
  await compute.disks.createOrUpdate(given.group, "holdout-upload", {
    location: given.location,
    creationData: { createOption: "Upload", uploadSizeBytes: sizeBytes + 512 },
    sku: { name: "Premium_LRS" },
  });
  assert.equal((await compute.disks.get(given.group, "holdout-upload")).diskState, "ReadyToUpload");
  const granted = await compute.disks.grantAccess(given.group, "holdout-upload", { access: "Write", durationInSeconds: 3600 });
  const blob = new PageBlobClient(granted.accessSAS);
  await blob.uploadPages(first, 4 * MiB, MiB);
  await blob.uploadPages(vhdFooter(sizeBytes), sizeBytes, 512);
  await compute.disks.revokeAccess(given.group, "holdout-upload");
  const disk = await compute.disks.get(given.group, "holdout-upload");
  assert.equal(disk.diskState, "Unattached");
  assert.equal(disk.diskSizeGB, 1);
  const reading = await compute.disks.grantAccess(given.group, "holdout-upload", { access: "Read", durationInSeconds: 3600 });
  assert.deepEqual(await new PageBlobClient(reading.accessSAS).downloadToBuffer(4 * MiB, MiB), first);
  await compute.disks.revokeAccess(given.group, "holdout-upload");
  await compute.disks.delete(given.group, "holdout-upload");
});

// vhdFooter is the end of a fixed VHD, as the specification of the format lays it out.
function vhdFooter(sizeBytes) {
  const footer = Buffer.alloc(512);
  footer.write("conectix", 0, "latin1");
  footer.writeUInt32BE(2, 8); // features
  footer.writeUInt32BE(0x00010000, 12); // version
  footer.fill(0xff, 16, 24); // no data offset: a fixed disk
  footer.write("win ", 28, "latin1");
  footer.writeUInt32BE(0x000a0000, 32);
  footer.write("Wi2k", 36, "latin1");
  footer.writeBigUInt64BE(BigInt(sizeBytes), 40);
  footer.writeBigUInt64BE(BigInt(sizeBytes), 48);
  footer.writeUInt16BE(2080, 56); // 2,080 cylinders, 16 heads and 63 sectors are just below 1 GiB
  footer.writeUInt8(16, 58);
  footer.writeUInt8(63, 59);
  footer.writeUInt32BE(2, 60); // fixed
  footer.write("holdout-upload-1", 68, "latin1"); // a unique id of 16 bytes
  footer.writeUInt32BE(~footer.reduce((sum, byte) => sum + byte, 0) >>> 0, 64);
  return footer;
}

// -- the Blob service ---------------------------------------------------------------------------------------------------

await step("list containers", async () => {
  const names = (await all(blobs.listContainers())).map((container) => container.name).sort();
  assert.deepEqual(names, ["backups", "locked"]);
});

const content = Buffer.from("what was written first");
const backups = blobs.getContainerClient("backups");

await step("create a blob once", async () => {
  const blob = backups.getBlockBlobClient("folder/one");
  await blob.upload(content, content.length, { conditions: { ifNoneMatch: "*" } });
  await refused(409, "BlobAlreadyExists", () => blob.upload(content, content.length, { conditions: { ifNoneMatch: "*" } }));
  const etag = (await blob.getProperties()).etag;
  await refused(412, "ConditionNotMet", () => blob.upload(content, content.length, { conditions: { ifMatch: '"0x8D0000000000000"' } }));
  await blob.upload(content, content.length, { conditions: { ifMatch: etag } });
  assert.deepEqual(await blob.downloadToBuffer(), content);
  assert.deepEqual(await blob.downloadToBuffer(5, 3), content.subarray(5, 8));
});

await step("list blobs over several pages", async () => {
  for (let i = 0; i < 7; i++) await backups.getBlockBlobClient(`pages/${i}`).upload("x", 1);
  const sizes = [];
  for await (const page of backups.listBlobsFlat({ prefix: "pages/" }).byPage({ maxPageSize: 3 })) sizes.push(page.segment.blobItems.length);
  assert.deepEqual(sizes, [3, 3, 1]);
  const folders = [];
  for await (const item of backups.listBlobsByHierarchy("/")) folders.push(`${item.kind} ${item.name}`);
  assert.deepEqual(folders, ["prefix folder/", "prefix pages/"]);
});

await step("stage and commit blocks", async () => {
  const blob = backups.getBlockBlobClient("blocks");
  const ids = ["a", "b"].map((id) => Buffer.from(id).toString("base64"));
  await blob.stageBlock(ids[0], "hold", 4);
  await blob.stageBlock(ids[1], "fast", 4);
  await blob.commitBlockList(ids);
  assert.equal((await blob.downloadToBuffer()).toString(), "holdfast");
});

await step("hold a lease", async () => {
  const blob = backups.getBlockBlobClient("folder/one");
  const lease = blob.getBlobLeaseClient();
  await lease.acquireLease(30);
  await refused(412, "LeaseIdMissing", () => blob.delete());
  await blob.setMetadata({ owner: "holdout" }, { conditions: { leaseId: lease.leaseId } });
  await lease.releaseLease();
  assert.deepEqual((await blob.getProperties()).metadata, { owner: "holdout" });
  await blob.delete();
});

await step("read through a user-delegation SAS", async () => {
  const [startsOn, expiresOn] = [new Date(Date.now() - 60_000), new Date(Date.now() + 3600_000)];
  const key = await blobs.getUserDelegationKey(startsOn, expiresOn);
  const values = { containerName: "backups", blobName: "blocks", permissions: BlobSASPermissions.parse("r"), startsOn, expiresOn };
  const sas = generateBlobSASQueryParameters(values, key, given.account);
  const blob = new BlockBlobClient(`${backups.getBlockBlobClient("blocks").url}?${sas}`);
  assert.equal((await blob.downloadToBuffer()).toString(), "holdfast");
  await refused(403, "AuthorizationPermissionMismatch", () => blob.delete());
});

await step("keep old versions", async () => {
  const blob = blobs.getContainerClient("locked").getBlockBlobClient("versioned");
  const before = await blob.upload(content, content.length);
  await blob.upload("new", 3);
  assert.ok(before.versionId);
  assert.equal((await blob.downloadToBuffer()).toString(), "new");
  assert.deepEqual(await blob.withVersion(before.versionId).downloadToBuffer(), content);
  const versions = await all(blobs.getContainerClient("locked").listBlobsFlat({ includeVersions: true }));
  assert.equal(versions.length, 2);
});

await step("be refused to delete what is immutable", async () => {
  const blob = blobs.getContainerClient("locked").getBlockBlobClient("immutable");
  const { versionId } = await blob.upload(content, content.length);
  await blob.upload("new", 3);
  const old = blob.withVersion(versionId);
  await old.setImmutabilityPolicy({ expiriesOn: new Date(Date.now() + 3600_000), policyMode: "Locked" });
  assert.equal((await old.getProperties()).immutabilityPolicyMode.toLowerCase(), "locked");
  await refused(409, "BlobImmutableDueToPolicy", () => old.delete());
  await refused(409, undefined, () => old.setImmutabilityPolicy({ expiriesOn: new Date(Date.now() + 60_000), policyMode: "Locked" }));
  await old.setImmutabilityPolicy({ expiriesOn: new Date(Date.now() + 7200_000), policyMode: "Locked" });
  assert.deepEqual(await old.downloadToBuffer(), content);
});

await step("be refused with a wrong secret", async () => {
  const wrong = new ClientSecretCredential(given.tenant, given.client, "wrong", {
    authorityHost: given.activeDirectory,
    disableInstanceDiscovery: true,
  });
  const client = new ComputeManagementClient(wrong, given.subscription, { endpoint: given.resourceManager });
  await assert.rejects(all(client.virtualMachines.listAll()), /AADSTS7000215/);
});
