// An OpenID Connect provider for tests: oidc-provider, with everybody's claims as it was told, and a page that asks who
// one is. Usage: node provider.mjs NODE_MODULES < SETTINGS.json   It prints its address and serves until it is ended.
import {createServer} from 'node:http';
import {readFileSync} from 'node:fs';
import {pathToFileURL} from 'node:url';

const library = pathToFileURL(`${process.argv[2]}/oidc-provider/lib/index.js`);
const {default: Provider} = await import(library);
const settings = JSON.parse(readFileSync(0, 'utf8'));
const address = `http://127.0.0.1:${settings.port}`;

const provider = new Provider(address, {
  clients: [{
    client_id: 'certgate',
    client_secret: settings.secret,
    redirect_uris: [`${settings.dashboard}/oauth2callback`],
    post_logout_redirect_uris: [`${settings.dashboard}/sign-in`],
    grant_types: ['authorization_code'],
    response_types: ['code'],
  }],
  pkce: {required: () => true},
  claims: {openid: ['sub'], email: ['email', 'email_verified'], profile: ['name']},
  features: {devInteractions: {enabled: false}, rpInitiatedLogout: {enabled: true}},
  cookies: {keys: ['a key for tests only']},
  ttl: {Session: 3600, Interaction: 600, Grant: 3600, AccessToken: 600, IdToken: 600},
  findAccount: (_ctx, id) => ({accountId: id, claims: () => ({sub: id, ...settings.people[id]})}),
  interactions: {url: (_ctx, interaction) => `/interaction/${interaction.uid}`},
  renderError: (ctx, out, error) => {
    console.error(error.message);
    ctx.type = 'html';
    ctx.body = `<h1>The provider refuses</h1><pre>${out.error}: ${out.error_description}</pre>`;
  },
});

const form = (uid) => `<!DOCTYPE html><title>The provider</title><h1>Who are you?</h1>
<form method="post" action="/interaction/${uid}"><label>Account <input name="account" autofocus></label>
<button name="how" value="in">Continue</button><button name="how" value="out">Refuse</button></form>`;

async function interact(request, response) {
  const details = await provider.interactionDetails(request, response);
  if (request.method === 'GET' && details.prompt.name === 'login') {
    response.setHeader('content-type', 'text/html');
    response.end(form(details.uid));
    return;
  }
  let body = '';
  for await (const part of request) body += part;
  const sent = new URLSearchParams(body);
  let result;
  if (sent.get('how') === 'out') {
    result = {error: 'access_denied', error_description: 'refused by the person'};
  } else if (details.prompt.name === 'login') {
    result = {login: {accountId: sent.get('account')}};
  } else {
    const grant = new provider.Grant({accountId: details.session.accountId, clientId: details.params.client_id});
    grant.addOIDCScope(details.params.scope);
    result = {consent: {grantId: await grant.save()}};
  }
  await provider.interactionFinished(request, response, result, {mergeWithLastSubmission: true});
}

const serve = provider.callback();
createServer((request, response) => {
  if (!request.url.startsWith('/interaction/')) return serve(request, response);
  return interact(request, response).catch((error) => {
    console.error(error);
    response.statusCode = 500;
    response.end('failed');
  });
}).listen(settings.port, '127.0.0.1', () => console.log(address));
