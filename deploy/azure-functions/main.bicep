// A hub of one's own: a function app on the Flex Consumption plan, and a storage account for what it keeps.
//   az deployment group create --resource-group GROUP --template-file main.bicep --parameters name=NAME
// Nobody has a key of either account: the function comes in by its own identity, people by theirs.

@description('Name of the function app, and of its address: https://NAME.azurewebsites.net. Lower-case letters, digits and hyphens.')
@minLength(3)
@maxLength(32)
param name string

@description('Where everything is.')
param location string = resourceGroup().location

@description('Whether anybody who knows the address may make a pool. Otherwise it takes an invitation.')
param open bool = false

@description('Object id of who makes invitations and tokens with `localmem-hub`, such as your own; empty for nobody.')
param operator string = ''

@description('Of the function. Azure runs 3.13 by the worker that the tests run it by.')
@allowed(['3.11', '3.12', '3.13'])
param pythonVersion string = '3.13'

@description('Memory of an instance in MB: its price, too.')
@allowed([512, 2048, 4096])
param instanceMemory int = 512

@description('How many instances there may be at a time.')
@minValue(40)
@maxValue(1000)
param instancesMax int = 40

@description('When the function cleans up, as NCRONTAB: every half hour.')
param care string = '0 */30 * * * *'

@description('Whether logs are kept, in Application Insights, for 30 days and up to so many GB a day.')
param logs bool = true
param logsDailyGb string = '0.1'

var suffix = uniqueString(resourceGroup().id, name)
var packages = 'packages'
var memory = 'memory'
var blobOwner = subscriptionResourceId('Microsoft.Authorization/roleDefinitions', 'b7e6dc6d-f1e8-4753-8033-0f276bb0955b')
var blobContributor = subscriptionResourceId('Microsoft.Authorization/roleDefinitions', 'ba92f5b4-2d11-453d-a403-e96b0029c9fe')
var metricsPublisher = subscriptionResourceId('Microsoft.Authorization/roleDefinitions', '3913510d-42f4-4e42-8a64-420c390055eb')

// What the host of functions needs for itself: the package, and the lock of its timer.
resource hostStorage 'Microsoft.Storage/storageAccounts@2023-05-01' = {
  name: 'lmhost${suffix}'
  location: location
  kind: 'StorageV2'
  sku: { name: 'Standard_LRS' }
  properties: {
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
    allowBlobPublicAccess: false
    allowSharedKeyAccess: false
  }

  resource blobs 'blobServices' = {
    name: 'default'

    resource container 'containers' = {
      name: packages
      properties: { publicAccess: 'None' }
    }
  }
}

// What devices keep: an account of its own, so that the host's rights end before it.
resource storage 'Microsoft.Storage/storageAccounts@2023-05-01' = {
  name: 'lmhub${suffix}'
  location: location
  kind: 'StorageV2'
  sku: { name: 'Standard_LRS' }
  properties: {
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
    allowBlobPublicAccess: false
    allowSharedKeyAccess: false
  }

  resource blobs 'blobServices' = {
    name: 'default'
    properties: {
      // What devices forget is to be gone: nothing keeps what was deleted or replaced.
      deleteRetentionPolicy: { enabled: false }
      containerDeleteRetentionPolicy: { enabled: false }
      isVersioningEnabled: false
    }

    resource container 'containers' = {
      name: memory
      properties: { publicAccess: 'None' }
    }
  }
}

resource plan 'Microsoft.Web/serverfarms@2024-04-01' = {
  name: '${name}-plan'
  location: location
  kind: 'functionapp'
  sku: { name: 'FC1', tier: 'FlexConsumption' }
  properties: { reserved: true }
}

resource hub 'Microsoft.Web/sites@2024-04-01' = {
  name: name
  location: location
  kind: 'functionapp,linux'
  identity: { type: 'SystemAssigned' }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    siteConfig: {
      minTlsVersion: '1.2'
      ftpsState: 'Disabled'
    }
    functionAppConfig: {
      deployment: {
        storage: {
          type: 'blobContainer'
          value: '${hostStorage.properties.primaryEndpoints.blob}${packages}'
          authentication: { type: 'SystemAssignedIdentity' }
        }
      }
      runtime: { name: 'python', version: pythonVersion }
      scaleAndConcurrency: {
        instanceMemoryMB: instanceMemory
        maximumInstanceCount: instancesMax
        triggers: {
          // Devices of one pool at one process need not hear of each other through the storage.
          http: { perInstanceConcurrency: 100 }
        }
      }
    }
  }

  resource settings 'config' = {
    name: 'appsettings'
    properties: {
      AzureWebJobsStorage__accountName: hostStorage.name
      AzureWebJobsDisableHomepage: 'true'
      LOCALMEM_HUB_DATABASE: 'azure-blob://${memory}'
      LOCALMEM_HUB_STORAGE_ACCOUNT: storage.properties.primaryEndpoints.blob
      LOCALMEM_HUB_ORIGIN: 'https://${hub.properties.defaultHostName}'
      LOCALMEM_HUB_OPEN: open ? 'true' : 'false'
      LOCALMEM_HUB_CARE: care
      APPLICATIONINSIGHTS_CONNECTION_STRING: logs ? insights.properties.ConnectionString : ''
      APPLICATIONINSIGHTS_AUTHENTICATION_STRING: logs ? 'Authorization=AAD' : ''
    }
  }

  // The package comes in by the rights of who deploys it, never by a password.
  resource scm 'basicPublishingCredentialsPolicies' = {
    name: 'scm'
    properties: { allow: false }
  }

  resource ftp 'basicPublishingCredentialsPolicies' = {
    name: 'ftp'
    properties: { allow: false }
  }
}

// The host asks for this role of the account that it uses (AzureWebJobsStorage).
resource hostRole 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(hostStorage.id, name, blobOwner)
  scope: hostStorage
  properties: {
    roleDefinitionId: blobOwner
    principalId: hub.identity.principalId
    principalType: 'ServicePrincipal'
  }
}

// Of the hub's account one container, and no right to give rights.
resource hubRole 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(storage::blobs::container.id, name, blobContributor)
  scope: storage::blobs::container
  properties: {
    roleDefinitionId: blobContributor
    principalId: hub.identity.principalId
    principalType: 'ServicePrincipal'
  }
}

resource operatorRole 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (operator != '') {
  name: guid(storage::blobs::container.id, operator, blobContributor)
  scope: storage::blobs::container
  properties: {
    roleDefinitionId: blobContributor
    principalId: operator
    principalType: 'User'
  }
}

resource workspace 'Microsoft.OperationalInsights/workspaces@2023-09-01' = if (logs) {
  name: '${name}-logs'
  location: location
  properties: {
    sku: { name: 'PerGB2018' }
    retentionInDays: 30
    workspaceCapping: { dailyQuotaGb: json(logsDailyGb) }
  }
}

resource insights 'Microsoft.Insights/components@2020-02-02' = if (logs) {
  name: '${name}-insights'
  location: location
  kind: 'web'
  properties: {
    Application_Type: 'web'
    WorkspaceResourceId: workspace.id
    DisableLocalAuth: true
  }
}

resource insightsRole 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (logs) {
  name: guid(resourceGroup().id, name, metricsPublisher)
  scope: insights
  properties: {
    roleDefinitionId: metricsPublisher
    principalId: hub.identity.principalId
    principalType: 'ServicePrincipal'
  }
}

output url string = 'https://${hub.properties.defaultHostName}'
output storageAccount string = storage.properties.primaryEndpoints.blob
output functionName string = hub.name
