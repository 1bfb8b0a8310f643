//! Resolved SQL to an optimised logical plan of DataFusion: no session, no clock, no configuration but this.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::{Result, TableReference};
use datafusion::execution::SessionStateDefaults;
use datafusion::logical_expr::builder::LogicalTableSource;
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner, RelationPlanner};
use datafusion::logical_expr::{
    AggregateUDF, HigherOrderUDF, LogicalPlan, ScalarUDF, TableSource, WindowUDF,
};
use datafusion::optimizer::analyzer::type_coercion::TypeCoercion;
use datafusion::optimizer::optimize_projections::OptimizeProjections;
use datafusion::optimizer::simplify_expressions::SimplifyExpressions;
use datafusion::optimizer::{Analyzer, Optimizer, OptimizerContext};
use datafusion::sql::planner::{ParserOptions, SqlToRel};
use datafusion::sql::sqlparser::ast::{Query, Statement};

use super::Table;
use super::arithmetic::Arithmetic;
use super::error::{Code, Error};
use super::functions::Functions;
use super::keys;
use super::window::WindowPlanner;

/// What expressions may depend on besides their arguments: the zone, and it is UTC.
pub(super) fn config() -> Arc<ConfigOptions> {
    let mut config = ConfigOptions::new();
    config.execution.time_zone = Some("UTC".to_owned());
    Arc::new(config)
}

/// Plans a query whose names [`super::select`] has resolved.
pub(super) fn plan(
    query: Query,
    tables: &[Table<'_>],
    functions: &Functions,
    config: &Arc<ConfigOptions>,
) -> Result<LogicalPlan, Error> {
    let mut expressions: Vec<Arc<dyn ExprPlanner>> = vec![Arc::new(Arithmetic)];
    expressions.extend(SessionStateDefaults::default_expr_planners());
    let context =
        Context { tables, functions, expressions, relations: vec![Arc::new(WindowPlanner)], config };

    // Utf8View saves copies inside one query; between ours and the stores it only adds casts.
    let options = ParserOptions::new().with_map_string_types_to_utf8view(false);
    let plan = SqlToRel::new_with_options(&context, options)
        .sql_statement_to_plan(Statement::Query(Box::new(query)))?;
    let plan = keys::plain(plan)?;

    let plan = Analyzer::with_rules(vec![Arc::new(TypeCoercion::new())]).execute_and_check(
        plan,
        config,
        |_, _| {},
    )?;
    // Only what folds constants and prunes columns. Rules that move filters or share expressions
    // would change which record an expression fails on, and so what is quarantined.
    let rules = Optimizer::with_rules(vec![
        Arc::new(SimplifyExpressions::new()),
        Arc::new(OptimizeProjections::new()),
    ]);
    let context = OptimizerContext::new_with_config_options(Arc::clone(config))
        .without_query_execution_start_time()
        .with_skip_failing_rules(false);
    Ok(rules.optimize(plan, &context, |_, _| {})?)
}

/// What DataFusion may look up.
struct Context<'a> {
    tables: &'a [Table<'a>],
    functions: &'a Functions,
    expressions: Vec<Arc<dyn ExprPlanner>>,
    relations: Vec<Arc<dyn RelationPlanner>>,
    config: &'a ConfigOptions,
}

impl ContextProvider for Context<'_> {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        match self.tables.iter().find(|table| table.name == name.table()) {
            Some(table) => Ok(Arc::new(LogicalTableSource::new(Arc::clone(&table.schema)))),
            None => {
                Err(Error::new(Code::UnknownTable, name.table(), format!("there is no stream {name}")).into())
            }
        }
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.expressions
    }

    fn get_relation_planners(&self) -> &[Arc<dyn RelationPlanner>] {
        &self.relations
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.functions.scalar.get(name).cloned()
    }

    fn get_higher_order_meta(&self, _: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.functions.aggregate.get(name).cloned()
    }

    fn get_window_meta(&self, _: &str) -> Option<Arc<WindowUDF>> {
        None
    }

    fn get_variable_type(&self, _: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        self.config
    }

    fn udf_names(&self) -> Vec<String> {
        self.functions.scalar.keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.functions.aggregate.keys().cloned().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        Vec::new()
    }
}
