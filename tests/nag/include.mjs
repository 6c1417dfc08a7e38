// Put a CloudFormation template into a CDK app, and let cdk-nag and CDK's own validation report on it.
//
//   node include.mjs <folder with node_modules> <template> <folder for what CDK writes>
import { existsSync } from "node:fs";
import { createRequire } from "node:module";

const [packages, templateFile, outdir] = process.argv.slice(2);
const load = createRequire(`${packages}/package.json`);
const { App, Stack, Validations } = load("aws-cdk-lib");
const { CfnInclude } = load("aws-cdk-lib/cloudformation-include");
const { AwsSolutionsChecks, ServerlessChecks } = load("cdk-nag");

const app = new App({ analyticsReporting: false, outdir, stackTraces: false, treeMetadata: false });
new CfnInclude(new Stack(app, "stack"), "template", { templateFile });
Validations.of(app).addPlugins(new AwsSolutionsChecks(app), new ServerlessChecks(app));
try {
  app.synth();
} catch (error) {
  // Any finding is an error to CDK. What we make of findings, tests/nag/__main__.py decides.
  if (!existsSync(`${outdir}/validation-report.json`)) throw error;
}
