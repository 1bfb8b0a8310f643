//! Text to one parsed statement, with the spellings of Flink that sqlparser does not read.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArguments, ObjectName, ObjectNamePart, Query, Statement, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use super::call::Kind;
use super::error::{Code, Error};
use super::limits;

/// The argument that `PARTITION BY` inside a window call becomes.
pub(super) const PARTITION_BY: &str = "PARTITION_BY";

/// The call that `group FOR SYSTEM_TIME AS OF time` becomes.
pub(super) const AS_OF: &str = "AS_OF";

/// The tokens without comments, white space and trailing semicolons, one space between two of them.
///
/// Two texts with the same result are the same definition, so this goes into the definition hash.
pub fn normalised_tokens(sql: &str) -> Result<String, Error> {
    let mut tokens = significant(sql)?;
    while tokens.last().is_some_and(|t| t.token == Token::SemiColon) {
        tokens.pop();
    }
    Ok(tokens.iter().map(|t| t.token.to_string()).collect::<Vec<_>>().join(" "))
}

/// The one query that the text holds.
pub(super) fn parse(sql: &str) -> Result<Query, Error> {
    let tokens = significant(sql)?;
    if tokens.len() > limits::TOKENS {
        return Err(limits::too_long());
    }
    let tokens = as_of_calls(partition_arguments(drop_table_words(tokens)));
    let mut statements = Parser::new(&GenericDialect {})
        .with_tokens_with_locations(tokens)
        .parse_statements()
        .map_err(|e| syntax(&e))?;
    match (statements.pop(), statements.is_empty()) {
        (Some(Statement::Query(mut query)), true) => {
            limits::check(&query)?;
            let _: ControlFlow<()> = query.visit(&mut BareWords);
            Ok(*query)
        }
        (None, _) => Err(Error::new(Code::Syntax, "SQL", "the SQL is empty").hint(EXAMPLE)),
        (Some(_), false) => Err(Error::unsupported(
            "a second statement",
            "one SELECT per feature group; create a group for each",
        )),
        (Some(other), true) => {
            let text = other.to_string();
            let verb = text.split_whitespace().next().unwrap_or("statement").to_uppercase();
            Err(Error::unsupported(&verb, EXAMPLE))
        }
    }
}

/// The query that hints show where nothing nearer exists.
pub(super) const EXAMPLE: &str = "a feature group is one SELECT, e.g. SELECT user_id, COUNT(*) AS n \
     FROM TUMBLE(events, DESCRIPTOR(ts), INTERVAL '5' MINUTES) GROUP BY user_id, window_end";

fn significant(sql: &str) -> Result<Vec<TokenWithSpan>, Error> {
    let tokens = Tokenizer::new(&GenericDialect {}, sql)
        .tokenize_with_location()
        .map_err(|e| Error::new(Code::Syntax, "SQL", format!("the SQL cannot be read: {e}")))?;
    Ok(tokens.into_iter().filter(|t| !matches!(t.token, Token::Whitespace(_) | Token::EOF)).collect())
}

fn is_word(token: Option<&TokenWithSpan>, word: &str) -> bool {
    matches!(token.map(|t| &t.token), Some(Token::Word(w)) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word))
}

fn is_window(token: Option<&TokenWithSpan>) -> bool {
    Kind::ALL.iter().any(|kind| is_word(token, kind.name()))
}

/// `TUMBLE(TABLE events, …)` and `DATA => TABLE events` are the standard's spelling; the word says
/// nothing that its place does not say.
fn drop_table_words(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut kept: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    for token in tokens {
        let before = kept.len().checked_sub(1).and_then(|i| kept.get(i));
        let before_that = kept.len().checked_sub(2).and_then(|i| kept.get(i));
        let argument = match before.map(|t| &t.token) {
            Some(Token::RArrow) => true,
            Some(Token::LParen) => is_window(before_that),
            _ => false,
        };
        if !(argument && is_word(Some(&token), "TABLE")) {
            kept.push(token);
        }
    }
    kept
}

/// `SESSION(events PARTITION BY a, b, DESCRIPTOR(ts), …)` to
/// `SESSION(events, PARTITION_BY(a, b), DESCRIPTOR(ts), …)`: the columns go on to the next argument.
fn partition_arguments(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut written: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut calls: Vec<bool> = Vec::new(); // the open parentheses: is it a window's?
    let mut columns: Option<usize> = None; // the parentheses around an open PARTITION_BY
    let mut rest = tokens.into_iter().peekable();
    while let Some(token) = rest.next() {
        let ends = match &token.token {
            Token::RParen => columns == Some(calls.len()),
            Token::Comma => columns == Some(calls.len()) && !is_column(rest.clone()),
            _ => false,
        };
        if ends {
            columns = None;
            written.push(TokenWithSpan { token: Token::RParen, span: token.span });
        }
        match &token.token {
            Token::LParen => calls.push(is_window(written.last())),
            Token::RParen => _ = calls.pop(),
            _ => {}
        }
        let inside = calls.last() == Some(&true) && columns.is_none();
        if inside && is_word(Some(&token), "PARTITION") && is_word(rest.peek(), "BY") {
            let word = Token::make_word(PARTITION_BY, None);
            let opened = [Token::Comma, word, Token::LParen];
            written.extend(opened.map(|opened| TokenWithSpan { token: opened, span: token.span }));
            columns = Some(calls.len());
            rest.next();
        } else {
            written.push(token);
        }
    }
    written
}

/// `users FOR SYSTEM_TIME AS OF c.ts AS u` to `AS_OF(users, c.ts) AS u`.
fn as_of_calls(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    const WORDS: [&str; 4] = ["FOR", "SYSTEM_TIME", "AS", "OF"];
    let mut written: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut rest = tokens.as_slice();
    while let Some((token, after)) = rest.split_first() {
        let is_clause =
            WORDS.iter().zip(rest).filter(|(word, token)| is_word(Some(token), word)).count() == 4;
        let group = written.last().filter(|t| is_clause && matches!(t.token, Token::Word(_))).cloned();
        let Some(group) = group else {
            written.push(token.clone());
            rest = after;
            continue;
        };
        let time = rest.get(WORDS.len()..).unwrap_or_default();
        // A name, or several with periods between them.
        let length = time
            .iter()
            .zip(0..)
            .take_while(|(t, place)| match &t.token {
                Token::Word(_) => place % 2 == 0,
                Token::Period => place % 2 == 1,
                _ => false,
            })
            .count();
        let put = |token: Token| TokenWithSpan { token, span: group.span };
        written.pop();
        written.extend([
            put(Token::make_word(AS_OF, None)),
            put(Token::LParen),
            group.clone(),
            put(Token::Comma),
        ]);
        written.extend_from_slice(time.get(..length).unwrap_or_default());
        written.push(put(Token::RParen));
        rest = time.get(length..).unwrap_or_default();
    }
    written
}

/// Whether a column comes next, and not `DESCRIPTOR(…)` or `NAME => …`.
fn is_column(mut next: impl Iterator<Item = TokenWithSpan>) -> bool {
    matches!(next.next().map(|t| t.token), Some(Token::Word(_)))
        && !matches!(next.next().map(|t| t.token), Some(Token::LParen | Token::RArrow))
}

/// A word like `user` or `current_date` that sqlparser takes for a call without parentheses is a name
/// like any other; where no column is called so, [`super::names`] says what it would have been.
struct BareWords;

impl VisitorMut for BareWords {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Function(Function {
            name: ObjectName(parts),
            args: FunctionArguments::None,
            over: None,
            ..
        }) = expr
        {
            let words = parts.iter().filter_map(ObjectNamePart::as_ident).cloned().collect::<Vec<_>>();
            *expr = match <[_; 1]>::try_from(words) {
                Ok([word]) => Expr::Identifier(word),
                Err(words) => Expr::CompoundIdentifier(words),
            };
        }
        ControlFlow::Continue(())
    }
}

fn syntax(error: &ParserError) -> Error {
    let text = match error {
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => text.clone(),
        ParserError::RecursionLimitExceeded => "the SQL is nested too deeply".to_owned(),
    };
    Error::new(Code::Syntax, "SQL", format!("the SQL cannot be read: {text}")).hint(EXAMPLE)
}
